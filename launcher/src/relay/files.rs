//! How many files and sockets the process may have open.

/// Raises the limit to the most that the system allows. A watched camera needs
/// some twenty, and 1024 in all is what most systems begin with.
pub fn raise_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct outlives both calls, which read and write nothing else.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if !raised {
        let error = std::io::Error::last_os_error();
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}
