//! Which cores a thread runs on, for measurements: a thread that wanders from core to core measures the scheduler.

/// The cores that this thread may run on; empty where the system does not say.
pub fn cores() -> Vec<usize> {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        // SAFETY: a set of bits, for which zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is as large as the call is told; 0 is the calling thread.
        let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0;
        // SAFETY: only numbers that the set has room for are asked for.
        let has = |core: &usize| !failed && unsafe { libc::CPU_ISSET(*core, &set) };
        (0..8 * size_of::<libc::cpu_set_t>()).filter(has).collect()
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    Vec::new()
}

/// Keeps this thread on `core` from now on; false where the system does not let it.
pub fn pin(core: usize) -> bool {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        if core >= 8 * size_of::<libc::cpu_set_t>() {
            return false;
        }
        // SAFETY: a set of bits, for which zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set has room for this number.
        unsafe { libc::CPU_SET(core, &mut set) };
        // SAFETY: the set is as large as the call is told; 0 is the calling thread.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0 }
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        let _ = core;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn a_pinned_thread_has_one_core() {
        let all = cores();
        let last = *all.last().expect("a thread runs somewhere");
        let pinned = std::thread::spawn(move || (pin(last), cores())).join().expect("no panic");
        assert_eq!(pinned, (true, vec![last]));
        assert_eq!(cores(), all, "other threads stay as they were");
        assert!(!pin(usize::MAX));
    }
}
