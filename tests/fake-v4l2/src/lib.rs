//! A video device that is not there, for tests without hardware.
//!
//! Preloaded into a program (`LD_PRELOAD`), it answers `open`, `stat`, `dup`, `close`, `mmap` and
//! the ioctls of V4L2 for one path, which need not exist; everything else goes to the
//! kernel. `settings::Settings` says by which environment variables the device is
//! described, and by which files it is unplugged and frozen while the program runs.
//!
//! The functions are not variadic, as the system's are; on x86-64 and AArch64 Linux
//! their arguments come in the same registers.

mod device;
mod settings;
mod uapi;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use device::{Errno, Session};
use settings::{PixelFormat, RATES, settings};

/// Descriptors at or above this are never the device's.
const MAX_FD: usize = 4096;

/// Which descriptors are the device's: looked at on every call, so without a lock.
static IS_OURS: [AtomicBool; MAX_FD] = [const { AtomicBool::new(false) }; MAX_FD];

/// The sessions, by descriptor.
fn sessions() -> MutexGuard<'static, HashMap<RawFd, Arc<Session>>> {
    static SESSIONS: OnceLock<Mutex<HashMap<RawFd, Arc<Session>>>> = OnceLock::new();
    SESSIONS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn flag(fd: RawFd) -> Option<&'static AtomicBool> {
    usize::try_from(fd).ok().and_then(|fd| IS_OURS.get(fd))
}

fn session(fd: RawFd) -> Option<Arc<Session>> {
    if !flag(fd)?.load(Ordering::Acquire) {
        return None;
    }
    sessions().get(&fd).cloned()
}

/// Gives the program a descriptor of `session`.
fn hand_out(session: Arc<Session>) -> Result<RawFd, Errno> {
    // SAFETY: plain system call on a descriptor that is open.
    let fd = unsafe { libc::syscall(libc::SYS_dup, session.ready().as_raw_fd()) } as RawFd;
    let Some(flag) = flag(fd) else {
        return Err(libc::EMFILE);
    };
    sessions().insert(fd, session);
    flag.store(true, Ordering::Release);
    Ok(fd)
}

/// A result as C functions return it.
fn answer(result: Result<c_int, Errno>) -> c_int {
    result.unwrap_or_else(|errno| {
        // SAFETY: the location is this thread's own.
        unsafe { *libc::__errno_location() = errno };
        -1
    })
}

/// Opens the device.
fn open_device() -> c_int {
    answer(match settings().is_unplugged() {
        true => Err(libc::ENODEV),
        false => Session::new().and_then(hand_out),
    })
}

/// Whether `path` is the device's.
///
/// # Safety
/// `path` is a C string, or null.
unsafe fn is_device(path: *const c_char) -> bool {
    // SAFETY: as the caller says.
    !path.is_null() && settings().is_device(unsafe { CStr::from_ptr(path) })
}

/// `openat(2)` in place of the C library's.
///
/// # Safety
/// As `openat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_int,
) -> c_int {
    // SAFETY: what the caller gives is passed on.
    unsafe {
        match is_device(path) {
            true => open_device(),
            false => libc::syscall(libc::SYS_openat, folder, path, flags, mode) as c_int,
        }
    }
}

/// `open(2)` in place of the C library's.
///
/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: as the caller says.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// `open64`, by which 64-bit programs call `open(2)`.
///
/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: as the caller says.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// `open(2)` of programs built with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as the caller says.
    unsafe { openat(libc::AT_FDCWD, path, flags, 0) }
}

/// `open64` of programs built with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as the caller says.
    unsafe { openat(libc::AT_FDCWD, path, flags, 0) }
}

/// `stat(2)` in place of the C library's: programs look whether the path is a device.
///
/// # Safety
/// As `stat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stat(path: *const c_char, status: *mut libc::stat) -> c_int {
    // SAFETY: what the caller gives is passed on, or filled with what zeroes stand for.
    unsafe {
        if !is_device(path) {
            let result = libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, status, 0);
            return result as c_int;
        }
        if settings().is_unplugged() {
            return answer(Err(libc::ENOENT));
        }
        *status = std::mem::zeroed();
        (*status).st_mode = libc::S_IFCHR | 0o660;
    }
    0
}

/// `stat64`, by which 64-bit programs call `stat(2)`.
///
/// # Safety
/// As `stat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stat64(path: *const c_char, status: *mut libc::stat) -> c_int {
    // SAFETY: as the caller says.
    unsafe { stat(path, status) }
}

/// `dup(2)` in place of the C library's.
#[unsafe(no_mangle)]
pub extern "C" fn dup(fd: c_int) -> c_int {
    match session(fd) {
        Some(session) => answer(hand_out(session)),
        // SAFETY: what the caller gives is passed on.
        None => unsafe { libc::syscall(libc::SYS_dup, fd) as c_int },
    }
}

/// `close(2)` in place of the C library's.
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    if flag(fd).is_some_and(|flag| flag.swap(false, Ordering::AcqRel)) {
        let mut sessions = sessions();
        let closed = sessions.remove(&fd);
        let is_last =
            |session: &Arc<Session>| !sessions.values().any(|other| Arc::ptr_eq(session, other));
        if let Some(session) = closed.filter(is_last) {
            session.stop();
        }
    }
    // SAFETY: what the caller gives is passed on.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// `mmap(2)` in place of the C library's.
///
/// # Safety
/// As `mmap(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    let fd = match session(fd).map(|session| session.memory_fd()) {
        Some(Ok(memory)) => memory,
        Some(Err(errno)) => {
            answer(Err(errno));
            return libc::MAP_FAILED;
        }
        None => fd,
    };
    // SAFETY: what the caller gives is passed on, with the pages of the buffers for
    // those of the device.
    unsafe {
        libc::syscall(
            libc::SYS_mmap,
            address,
            length,
            protection,
            flags,
            fd,
            offset,
        ) as *mut c_void
    }
}

/// `mmap64`, by which 64-bit programs call `mmap(2)`.
///
/// # Safety
/// As `mmap(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    // SAFETY: as the caller says.
    unsafe { mmap(address, length, protection, flags, fd, offset) }
}

/// `ioctl(2)` in place of the C library's.
///
/// # Safety
/// As `ioctl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    match session(fd) {
        // SAFETY: the caller gives what the request takes, as to the kernel.
        Some(session) => answer(unsafe { control(&session, request as u32, argument) }),
        // SAFETY: what the caller gives is passed on.
        None => unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int },
    }
}

/// Carries out a request of V4L2.
///
/// # Safety
/// `argument` points to what the request takes.
unsafe fn control(
    session: &Arc<Session>,
    request: u32,
    argument: *mut c_void,
) -> Result<c_int, Errno> {
    // Any request to a device that is gone says so.
    let mode = session.mode()?;
    // SAFETY: as the caller says; each structure is the one that its request takes.
    unsafe {
        match request {
            uapi::QUERYCAP => describe(&mut *argument.cast()),
            uapi::ENUM_FMT => list_formats(&mut *argument.cast())?,
            uapi::ENUM_FRAMESIZES => list_sizes(&mut *argument.cast())?,
            uapi::ENUM_FRAMEINTERVALS => list_rates(&mut *argument.cast())?,
            uapi::G_FMT => fill_format(&mut *argument.cast(), mode.0)?,
            uapi::TRY_FMT => {
                let format = &mut *argument.cast::<uapi::Format>();
                fill_format(format, nearest_format(format.pix.pixelformat))?;
            }
            uapi::S_FMT => {
                let format = &mut *argument.cast::<uapi::Format>();
                let chosen = nearest_format(format.pix.pixelformat);
                fill_format(format, chosen)?;
                session.set_format(chosen)?;
            }
            uapi::G_PARM => fill_rate(&mut *argument.cast(), mode.1)?,
            uapi::S_PARM => {
                let parameters = &mut *argument.cast::<uapi::StreamParm>();
                let asked = parameters.denominator / parameters.numerator.max(1);
                let rate = RATES.into_iter().min_by_key(|rate| rate.abs_diff(asked));
                let rate = rate.unwrap_or(RATES[0]);
                fill_rate(parameters, rate)?;
                session.set_rate(rate)?;
            }
            uapi::REQBUFS => {
                let asked = &mut *argument.cast::<uapi::RequestBuffers>();
                capture(asked.kind)?;
                if asked.memory != uapi::MEMORY_MMAP {
                    return Err(libc::EINVAL);
                }
                asked.count = session.request_buffers(asked.count)?;
                asked.capabilities =
                    uapi::BUF_CAP_SUPPORTS_MMAP | uapi::BUF_CAP_SUPPORTS_ORPHANED_BUFS;
            }
            uapi::QUERYBUF => {
                let buffer = &mut *argument.cast::<uapi::Buffer>();
                capture(buffer.kind)?;
                let length = session.buffer_length(buffer.index)?;
                buffer.offset = u64::from(buffer.index) * u64::from(length);
                buffer.length = length;
                buffer.memory = uapi::MEMORY_MMAP;
                buffer.flags = uapi::BUF_FLAG_TIMESTAMP_MONOTONIC;
            }
            uapi::QBUF => {
                let buffer = &mut *argument.cast::<uapi::Buffer>();
                capture(buffer.kind)?;
                session.queue(buffer.index)?;
                buffer.flags = uapi::BUF_FLAG_MAPPED
                    | uapi::BUF_FLAG_QUEUED
                    | uapi::BUF_FLAG_TIMESTAMP_MONOTONIC;
            }
            uapi::DQBUF => {
                let buffer = &mut *argument.cast::<uapi::Buffer>();
                capture(buffer.kind)?;
                let done = session.dequeue()?;
                let length = session.buffer_length(done.index)?;
                buffer.index = done.index;
                buffer.bytesused = done.bytes;
                buffer.sequence = done.sequence;
                buffer.timestamp = done.time;
                buffer.field = uapi::FIELD_NONE;
                buffer.memory = uapi::MEMORY_MMAP;
                buffer.offset = u64::from(done.index) * u64::from(length);
                buffer.length = length;
                buffer.flags = uapi::BUF_FLAG_MAPPED
                    | uapi::BUF_FLAG_DONE
                    | uapi::BUF_FLAG_TIMESTAMP_MONOTONIC;
            }
            uapi::STREAMON => session.start()?,
            uapi::STREAMOFF => session.stop(),
            _ => return Err(libc::ENOTTY),
        }
    }
    Ok(0)
}

fn capture(kind: u32) -> Result<(), Errno> {
    match kind {
        uapi::BUF_TYPE_VIDEO_CAPTURE => Ok(()),
        _ => Err(libc::EINVAL),
    }
}

fn describe(capability: &mut uapi::Capability) {
    let write = |field: &mut [u8], text: &[u8]| {
        field.fill(0);
        field[..text.len()].copy_from_slice(text);
    };
    write(&mut capability.driver, b"fake");
    write(&mut capability.card, b"Fake camera");
    write(&mut capability.bus_info, b"platform:fake");
    capability.version = 0x0006_0100;
    capability.device_caps = uapi::CAP_VIDEO_CAPTURE | uapi::CAP_STREAMING;
    capability.capabilities = capability.device_caps | uapi::CAP_DEVICE_CAPS;
    capability.reserved = [0; 3];
}

fn list_formats(entry: &mut uapi::FmtDesc) -> Result<(), Errno> {
    capture(entry.kind)?;
    let formats = &settings().formats;
    let format = *formats.get(entry.index as usize).ok_or(libc::EINVAL)?;
    entry.pixelformat = format.fourcc();
    entry.flags = match format {
        PixelFormat::Yuyv => 0,
        PixelFormat::Mjpg => uapi::FMT_FLAG_COMPRESSED,
    };
    entry.description = [0; 32];
    Ok(())
}

/// Whether the device has that format at all.
fn has_format(fourcc: u32) -> bool {
    let formats = &settings().formats;
    formats.iter().any(|format| format.fourcc() == fourcc)
}

/// The format of that name, or the one that a device falls back to.
fn nearest_format(fourcc: u32) -> PixelFormat {
    let formats = &settings().formats;
    let found = formats.iter().find(|format| format.fourcc() == fourcc);
    *found.unwrap_or(&formats[0])
}

fn list_sizes(entry: &mut uapi::FrmSizeEnum) -> Result<(), Errno> {
    if entry.index != 0 || !has_format(entry.pixel_format) {
        return Err(libc::EINVAL);
    }
    entry.kind = uapi::FRMSIZE_TYPE_DISCRETE;
    (entry.width, entry.height) = settings().size;
    Ok(())
}

fn list_rates(entry: &mut uapi::FrmIvalEnum) -> Result<(), Errno> {
    if !has_format(entry.pixel_format) || (entry.width, entry.height) != settings().size {
        return Err(libc::EINVAL);
    }
    let rate = RATES.get(entry.index as usize).ok_or(libc::EINVAL)?;
    entry.kind = uapi::FRMIVAL_TYPE_DISCRETE;
    (entry.numerator, entry.denominator) = (1, *rate);
    Ok(())
}

/// The most bytes that a picture has.
fn image_size() -> u32 {
    let (width, height) = settings().size;
    width * height * 2
}

fn fill_format(format: &mut uapi::Format, chosen: PixelFormat) -> Result<(), Errno> {
    capture(format.kind)?;
    let (width, height) = settings().size;
    let (bytesperline, colorspace) = match chosen {
        PixelFormat::Yuyv => (width * 2, uapi::COLORSPACE_SRGB),
        PixelFormat::Mjpg => (0, uapi::COLORSPACE_JPEG),
    };
    format.pix = uapi::PixFormat {
        width,
        height,
        pixelformat: chosen.fourcc(),
        field: uapi::FIELD_NONE,
        bytesperline,
        sizeimage: image_size(),
        colorspace,
        private: 0,
        flags: 0,
        ycbcr_enc: 0,
        quantization: 0,
        xfer_func: 0,
    };
    Ok(())
}

fn fill_rate(parameters: &mut uapi::StreamParm, rate: u32) -> Result<(), Errno> {
    capture(parameters.kind)?;
    parameters.capability = uapi::CAP_TIMEPERFRAME;
    (parameters.numerator, parameters.denominator) = (1, rate);
    Ok(())
}
