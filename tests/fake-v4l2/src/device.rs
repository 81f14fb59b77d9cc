//! One opened device: its format, its buffers, and the thread that fills them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::settings::{PixelFormat, RATES, settings};

/// An error number of `errno.h`.
pub type Errno = i32;

/// The most buffers that are given.
const MAX_BUFFERS: u32 = 32;

/// What stands behind one or more descriptors of the device.
pub struct Session {
    state: Mutex<State>,
    /// An event counter, read whole and written without waiting: above zero when there
    /// is a picture to fetch, or an error. The program's descriptors are copies of it.
    ready: File,
}

struct State {
    format: PixelFormat,
    rate: u32,
    memory: Option<Memory>,
    queued: VecDeque<u32>,
    done: VecDeque<Done>,
    streaming: bool,
    /// Counts the times that streaming began, so that an old thread sees that it is.
    run: u64,
    /// The device was unplugged; for this session that is for ever.
    gone: bool,
}

struct Memory {
    file: File,
    count: u32,
    length: u32,
}

/// A filled buffer.
#[derive(Clone, Copy)]
pub struct Done {
    /// Which one.
    pub index: u32,
    /// Bytes of it that are the picture.
    pub bytes: u32,
    /// The number of the picture.
    pub sequence: u32,
    /// When it was taken, by the monotonic clock.
    pub time: libc::timeval,
}

impl Session {
    /// A session of a device that is plugged in.
    pub fn new() -> Result<Arc<Self>, Errno> {
        // SAFETY: the descriptor is new, and nobody else's.
        let ready = unsafe {
            let fd = libc::eventfd(
                0,
                libc::EFD_NONBLOCK | libc::EFD_CLOEXEC | libc::EFD_SEMAPHORE,
            );
            if fd < 0 {
                return Err(libc::EMFILE);
            }
            File::from(OwnedFd::from_raw_fd(fd))
        };
        let format = *settings().formats.first().ok_or(libc::ENODEV)?;
        let state = State {
            format,
            rate: RATES[0],
            memory: None,
            queued: VecDeque::new(),
            done: VecDeque::new(),
            streaming: false,
            run: 0,
            gone: false,
        };
        Ok(Arc::new(Self {
            state: Mutex::new(state),
            ready,
        }))
    }

    /// The descriptor that can be waited on.
    pub fn ready(&self) -> &File {
        &self.ready
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a device that is still there.
    fn present(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.lock();
        state.gone |= settings().is_unplugged();
        match state.gone {
            true => Err(libc::ENODEV),
            false => Ok(state),
        }
    }

    /// Its format and frame rate.
    pub fn mode(&self) -> Result<(PixelFormat, u32), Errno> {
        self.present().map(|state| (state.format, state.rate))
    }

    /// Sets the format; not while there are buffers.
    pub fn set_format(&self, format: PixelFormat) -> Result<(), Errno> {
        let mut state = self.present()?;
        if state.memory.is_some() && state.format != format {
            return Err(libc::EBUSY);
        }
        state.format = format;
        Ok(())
    }

    /// Sets the frames a second.
    pub fn set_rate(&self, rate: u32) -> Result<(), Errno> {
        self.present()?.rate = rate;
        Ok(())
    }

    /// Makes `count` buffers in place of the old ones, which stay where they are mapped;
    /// returns how many there are. None ends the pictures.
    pub fn request_buffers(&self, count: u32) -> Result<u32, Errno> {
        if count == 0 {
            self.stop();
        }
        let mut state = self.present()?;
        if state.streaming {
            return Err(libc::EBUSY);
        }
        state.queued.clear();
        state.memory = None;
        if count == 0 {
            return Ok(0);
        }
        let count = count.min(MAX_BUFFERS);
        let page = 4096;
        let length = crate::image_size().next_multiple_of(page);
        // SAFETY: the name ends in NUL; the descriptor is new, and nobody else's.
        let file = unsafe {
            let fd = libc::memfd_create(c"fake-v4l2".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(libc::ENOMEM);
            }
            File::from(OwnedFd::from_raw_fd(fd))
        };
        let size = u64::from(count) * u64::from(length);
        file.set_len(size).map_err(|_| libc::ENOMEM)?;
        state.memory = Some(Memory {
            file,
            count,
            length,
        });
        Ok(count)
    }

    /// The length of buffer `index`; they lie one after the other.
    pub fn buffer_length(&self, index: u32) -> Result<u32, Errno> {
        match &self.present()?.memory {
            Some(memory) if index < memory.count => Ok(memory.length),
            _ => Err(libc::EINVAL),
        }
    }

    /// The descriptor whose pages the buffers are.
    pub fn memory_fd(&self) -> Result<i32, Errno> {
        let state = self.lock();
        let memory = state.memory.as_ref().ok_or(libc::EINVAL)?;
        Ok(memory.file.as_raw_fd())
    }

    /// Gives a buffer to be filled.
    pub fn queue(&self, index: u32) -> Result<(), Errno> {
        let mut state = self.present()?;
        let count = state.memory.as_ref().map_or(0, |memory| memory.count);
        if index >= count || state.queued.contains(&index) {
            return Err(libc::EINVAL);
        }
        state.queued.push_back(index);
        Ok(())
    }

    /// Fetches a filled buffer; waits for one, whatever `O_NONBLOCK` says.
    pub fn dequeue(&self) -> Result<Done, Errno> {
        loop {
            let mut state = self.present()?;
            if !state.streaming {
                return Err(libc::EINVAL);
            }
            if let Some(done) = state.done.pop_front() {
                self.take_one();
                return Ok(done);
            }
            drop(state);
            let mut poll = libc::pollfd {
                fd: self.ready.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one element, as is said.
            unsafe { libc::poll(&mut poll, 1, -1) };
        }
    }

    /// Lets the pictures come.
    pub fn start(self: &Arc<Self>) -> Result<(), Errno> {
        let mut state = self.present()?;
        if state.memory.is_none() || state.streaming {
            return Err(libc::EINVAL);
        }
        state.streaming = true;
        state.run += 1;
        let run = state.run;
        drop(state);
        let session = self.clone();
        thread::Builder::new()
            .name("fake-v4l2".into())
            .spawn(move || session.produce(run))
            .map(|_| ())
            .map_err(|_| libc::ENOMEM)
    }

    /// Stops the pictures; every buffer is the program's again.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.streaming = false;
        state.queued.clear();
        for _ in std::mem::take(&mut state.done) {
            self.take_one();
        }
    }

    /// Fills buffers at the frame rate: this is the device's own clock.
    fn produce(&self, run: u64) {
        let mut sequence = 0;
        let mut due = Instant::now();
        loop {
            let mut state = self.lock();
            if !state.streaming || state.run != run {
                return;
            }
            if state.gone || settings().is_unplugged() {
                state.gone = true;
                self.add_one();
                return;
            }
            if !settings().is_frozen() {
                if state.fill(sequence) {
                    self.add_one();
                }
                sequence += 1;
            }
            due += Duration::from_secs(1) / state.rate;
            drop(state);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn add_one(&self) {
        // A full counter is above zero, which is all that it is for.
        let _ = (&self.ready).write(&1_u64.to_ne_bytes());
    }

    fn take_one(&self) {
        // A counter at zero has nothing to take.
        let _ = (&self.ready).read(&mut [0; 8]);
    }
}

impl State {
    /// Fills the next buffer, if there is one.
    fn fill(&mut self, sequence: u32) -> bool {
        let Some(memory) = &self.memory else {
            return false;
        };
        let Some(index) = self.queued.pop_front() else {
            return false;
        };
        let drawn;
        let picture = match self.format {
            PixelFormat::Yuyv => {
                drawn = draw(sequence);
                drawn.as_slice()
            }
            PixelFormat::Mjpg => match settings().jpegs() {
                [] => [].as_slice(),
                jpegs => &jpegs[sequence as usize % jpegs.len()],
            },
        };
        let picture = &picture[..picture.len().min(memory.length as usize)];
        let start = u64::from(index) * u64::from(memory.length);
        if memory.file.write_all_at(picture, start).is_err() {
            return false;
        }
        self.done.push_back(Done {
            index,
            bytes: picture.len() as u32,
            sequence,
            time: now(),
        });
        true
    }
}

/// A slanting ramp of grey that moves by four pixels a picture.
fn draw(sequence: u32) -> Vec<u8> {
    let (width, height) = settings().size;
    let shift = sequence * 4;
    (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [(x + y + shift) as u8, 128]))
        .collect()
}

fn now() -> libc::timeval {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the clock is written to memory that is there for it; zeroes are a time as well.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    libc::timeval {
        tv_sec: now.tv_sec,
        tv_usec: now.tv_nsec / 1000,
    }
}
