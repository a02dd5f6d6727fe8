//! Processes: reaping, titles, limits.

use super::*;

#[test]
fn only_single_processes_are_signalled() {
    for pid in [0, -1, i32::MIN] {
        assert_eq!(kill(pid, Signal(0)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
        assert!(!exists(pid));
    }
    assert!(kill(id(), Signal(0)).unwrap());
    assert!(!kill(i32::MAX, Signal(0)).unwrap(), "above any pid_max");
}

#[test]
fn parents_exist() {
    assert!(exists(id()) && exists(parent_id()) && !exists(i32::MAX));
    assert_ne!(id(), parent_id());
}

#[test]
fn a_thread_gets_its_name_cut_to_fifteen_bytes() {
    std::thread::spawn(|| {
        set_name("a name\0 that is too long");
        let path = "/proc/thread-self/comm";
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a name that is \n");
    })
    .join()
    .unwrap();
}

#[test]
fn the_descriptor_limit_is_positive() {
    assert!(descriptors_max().unwrap() > 3);
}
