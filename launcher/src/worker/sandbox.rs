//! Takes from the worker what it does not need. What the system does not grant is left:
//! the worker is a process of its own in any case.

use libc::{RLIMIT_AS, RLIMIT_CORE, RLIMIT_FSIZE, rlimit};

/// Memory that the worker may map, in bytes.
const MEMORY: u64 = 3 << 30;
/// How far behind others it stands for processor time.
const NICENESS: i32 = 10;

/// To be called before any other thread runs.
pub fn enter() {
    let limit = |what, most| {
        let limit = rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: it reads the struct, which is there.
        unsafe { libc::setrlimit(what, &limit) };
    };
    limit(RLIMIT_AS, MEMORY);
    limit(RLIMIT_CORE, 0);
    // GStreamer may write its list of plugins.
    limit(RLIMIT_FSIZE, 16 << 20);
    // SAFETY: these take numbers and change this process only; no other thread runs yet.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        // A network of its own, with nothing in it.
        libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
    }
}

/// Lets all others go first from now on, in threads that this one starts as well.
pub fn stand_back() {
    // SAFETY: it takes numbers and changes this thread only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
