//! The simulation itself: a seed is a whole history, and the faults that it is asked for do happen.
#![allow(clippy::unwrap_used, reason = "test code, though outside of test functions")]

use std::os::fd::AsRawFd;
use std::time::Duration;

use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_io::driver::{Completion, Driver, Received, SendBuf, Token, Urgency};

/// Everything that a small busy server sees, as text, with the virtual time of each wait.
fn history(seed: u64, config: &SimConfig) -> Vec<String> {
    let (mut driver, net) = Driver::sim(seed, config);
    let mut connections = Vec::new();
    for token in 0..5 {
        let (fd, peer) = net.pair();
        driver.recv(fd.as_raw_fd(), Token(token)).unwrap();
        net.send(peer, &[token as u8; 3000]);
        net.finish(peer);
        connections.push(fd);
    }
    let (mut lines, mut out) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        driver.wait(Some(Duration::from_millis(1)), &mut out).unwrap();
        for completion in out.drain(..) {
            lines.push(format!("{:?} {completion:?}", net.now()));
            if let Completion::Recv { token, outcome: Received::Data(buf) } = completion {
                let answer = SendBuf { head: driver.buffer(&buf).to_vec(), ..SendBuf::default() };
                driver.release(buf);
                let fd = connections[token.0 as usize].as_raw_fd();
                lines.push(format!("{:?}", driver.send(fd, Token(token.0 + 100), answer, Urgency::Batch)));
            }
        }
    }
    lines
}

#[test]
fn a_seed_is_a_history() {
    let config = SimConfig::default();
    for seed in 0..20 {
        assert_eq!(history(seed, &config), history(seed, &config));
    }
    assert_ne!(history(1, &config), history(2, &config));
}

#[test]
fn nothing_is_lost_and_every_stream_ends() {
    for seed in 0..50 {
        let lines = history(seed, &SimConfig::default());
        assert_eq!(lines.iter().filter(|line| line.contains("Eof")).count(), 5, "seed {seed}");
        assert!(!lines.iter().any(|line| line.contains("Err")), "seed {seed}");
    }
}

#[test]
fn faults_happen_when_asked_for() {
    let resets = SimConfig { reset_per_mille: 200, ..SimConfig::default() };
    assert!((0..20).any(|seed| { history(seed, &resets).iter().any(|line| line.contains("code: 104")) }));
    let canceled = SimConfig { canceled_per_mille: 1000, late_per_mille: 0, ..SimConfig::default() };
    let (mut driver, net) = Driver::sim(1, &canceled);
    let fd = net.pollable(libc::POLLIN as u32);
    driver.poll(fd.as_raw_fd(), libc::POLLIN as u32, Token(1)).unwrap();
    let mut out = Vec::new();
    driver.wait(None, &mut out).unwrap();
    let Some(Completion::Poll { result: Err(error), .. }) = out.pop() else { panic!("{out:?}") };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
}

#[test]
fn virtual_time_passes_only_in_waits_and_on_request() {
    let (mut driver, net) = Driver::sim(1, &SimConfig::default());
    let start = net.now();
    driver.wait(Some(Duration::from_secs(5)), &mut Vec::new()).unwrap();
    net.advance(Duration::from_secs(2));
    assert_eq!(net.now().since(start), Duration::from_secs(7));
}
