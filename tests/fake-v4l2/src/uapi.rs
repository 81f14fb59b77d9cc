//! The part of `linux/videodev2.h` that a capture device needs (64-bit layout).

#![allow(missing_docs, reason = "the names are those of videodev2.h")]

use std::mem::size_of;

pub const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
pub const MEMORY_MMAP: u32 = 1;
pub const FIELD_NONE: u32 = 1;
pub const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub const CAP_STREAMING: u32 = 0x0400_0000;
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
pub const CAP_TIMEPERFRAME: u32 = 0x1000;
pub const COLORSPACE_SRGB: u32 = 8;
pub const COLORSPACE_JPEG: u32 = 7;
pub const FRMSIZE_TYPE_DISCRETE: u32 = 1;
pub const FRMIVAL_TYPE_DISCRETE: u32 = 1;
pub const FMT_FLAG_COMPRESSED: u32 = 1;
pub const BUF_CAP_SUPPORTS_MMAP: u32 = 0x1;
pub const BUF_CAP_SUPPORTS_ORPHANED_BUFS: u32 = 0x10;
pub const BUF_FLAG_MAPPED: u32 = 1;
pub const BUF_FLAG_QUEUED: u32 = 2;
pub const BUF_FLAG_DONE: u32 = 4;
pub const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

#[repr(C)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    pub reserved: [u32; 3],
}

#[repr(C)]
pub struct FmtDesc {
    pub index: u32,
    pub kind: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub pixelformat: u32,
    pub mbus_code: u32,
    pub reserved: [u32; 3],
}

#[repr(C)]
pub struct FrmSizeEnum {
    pub index: u32,
    pub pixel_format: u32,
    pub kind: u32,
    pub width: u32,
    pub height: u32,
    pub stepwise_rest: [u32; 4],
    pub reserved: [u32; 2],
}

#[repr(C)]
pub struct FrmIvalEnum {
    pub index: u32,
    pub pixel_format: u32,
    pub width: u32,
    pub height: u32,
    pub kind: u32,
    pub numerator: u32,
    pub denominator: u32,
    pub stepwise_rest: [u32; 4],
    pub reserved: [u32; 2],
}

#[repr(C)]
pub struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub pixelformat: u32,
    pub field: u32,
    pub bytesperline: u32,
    pub sizeimage: u32,
    pub colorspace: u32,
    pub private: u32,
    pub flags: u32,
    pub ycbcr_enc: u32,
    pub quantization: u32,
    pub xfer_func: u32,
}

#[repr(C, align(8))]
pub struct Format {
    pub kind: u32,
    pub padding: u32,
    pub pix: PixFormat,
    pub rest: [u32; 38],
}

#[repr(C)]
pub struct StreamParm {
    pub kind: u32,
    pub capability: u32,
    pub capturemode: u32,
    pub numerator: u32,
    pub denominator: u32,
    pub extendedmode: u32,
    pub readbuffers: u32,
    pub rest: [u32; 44],
}

#[repr(C)]
pub struct RequestBuffers {
    pub count: u32,
    pub kind: u32,
    pub memory: u32,
    pub capabilities: u32,
    pub flags: u32,
}

#[repr(C)]
pub struct Buffer {
    pub index: u32,
    pub kind: u32,
    pub bytesused: u32,
    pub flags: u32,
    pub field: u32,
    pub timestamp: libc::timeval,
    pub timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    pub offset: u64,
    pub length: u32,
    pub reserved2: u32,
    pub request_fd: u32,
}

const READ: u32 = 2;
const WRITE: u32 = 1;

/// `_IOC` of `asm-generic/ioctl.h` with the type `V`.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | number
}

pub const QUERYCAP: u32 = request(READ, 0, size_of::<Capability>());
pub const ENUM_FMT: u32 = request(READ | WRITE, 2, size_of::<FmtDesc>());
pub const G_FMT: u32 = request(READ | WRITE, 4, size_of::<Format>());
pub const S_FMT: u32 = request(READ | WRITE, 5, size_of::<Format>());
pub const REQBUFS: u32 = request(READ | WRITE, 8, size_of::<RequestBuffers>());
pub const QUERYBUF: u32 = request(READ | WRITE, 9, size_of::<Buffer>());
pub const QBUF: u32 = request(READ | WRITE, 15, size_of::<Buffer>());
pub const DQBUF: u32 = request(READ | WRITE, 17, size_of::<Buffer>());
pub const STREAMON: u32 = request(WRITE, 18, 4);
pub const STREAMOFF: u32 = request(WRITE, 19, 4);
pub const G_PARM: u32 = request(READ | WRITE, 21, size_of::<StreamParm>());
pub const S_PARM: u32 = request(READ | WRITE, 22, size_of::<StreamParm>());
pub const TRY_FMT: u32 = request(READ | WRITE, 64, size_of::<Format>());
pub const ENUM_FRAMESIZES: u32 = request(READ | WRITE, 74, size_of::<FrmSizeEnum>());
pub const ENUM_FRAMEINTERVALS: u32 = request(READ | WRITE, 75, size_of::<FrmIvalEnum>());

// The numbers of videodev2.h on a 64-bit machine, so that a slip in a layout shows.
const _: () = {
    assert!(QUERYCAP == 0x8068_5600);
    assert!(ENUM_FMT == 0xc040_5602);
    assert!(G_FMT == 0xc0d0_5604);
    assert!(REQBUFS == 0xc014_5608);
    assert!(QUERYBUF == 0xc058_5609);
    assert!(DQBUF == 0xc058_5611);
    assert!(STREAMON == 0x4004_5612);
    assert!(G_PARM == 0xc0cc_5615);
    assert!(ENUM_FRAMESIZES == 0xc02c_564a);
    assert!(ENUM_FRAMEINTERVALS == 0xc034_564b);
};
