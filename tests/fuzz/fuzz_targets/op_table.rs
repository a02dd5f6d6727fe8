//! The table of operations against a plain list: whatever comes and goes, a key names its own operation or none.
//!
//! The table is private to the driver, so its source is compiled in here, beside as much of its words as it needs.
//! Each operation is two bytes of input: what is done, and to which descriptor or key.
#![no_main]
#![allow(dead_code, reason = "the table is compiled whole, and not all of it is called")]

#[path = "../../../crates/rgunicorn-io/src/driver/optable.rs"]
mod optable;
mod types {
    #[derive(Copy, Clone, PartialEq, Eq, Debug)]
    pub(crate) struct Token(pub(crate) u64);
    #[derive(Copy, Clone, PartialEq, Eq, Debug)]
    pub(crate) struct OpKey {
        pub(crate) index: u32,
        pub(crate) generation: std::num::NonZeroU32,
    }
}
mod sendop {
    #[derive(Debug)]
    pub(crate) struct SendOp;
}

use optable::{Op, OpPhase, OpTable};
use types::{OpKey, Token};

/// Descriptors of the test, with gaps, so that the chain heads grow.
const FDS: [i32; 8] = [0, 1, 2, 3, 7, 8, 40, 700];
const PHASES: [OpPhase; 3] = [OpPhase::Armed, OpPhase::Parked, OpPhase::Orphaned];

/// An operation as the list has it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    key: OpKey,
    fd: i32,
    token: u64,
    phase: OpPhase,
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut table, mut list, mut dead) = (OpTable::new(), Vec::<Entry>::new(), Vec::<OpKey>::new());
    for (number, step) in input.chunks_exact(2).enumerate() {
        let (what, pick) = (step[0], usize::from(step[1]));
        match what % 8 {
            0..3 => insert(&mut table, &mut list, FDS[pick % 8], number as u64, what),
            3..5 if !list.is_empty() => {
                let gone = list.remove(pick % list.len());
                assert!(matches!(table.remove(gone.key), Some(op) if token(&op) == gone.token));
                dead.push(gone.key);
            }
            5 if !list.is_empty() => {
                let at = pick % list.len();
                list[at].phase = PHASES[usize::from(what) % 3];
                table.set_phase(list[at].key, list[at].phase);
            }
            6 if !dead.is_empty() => {
                let key = dead[pick % dead.len()];
                table.set_phase(key, OpPhase::Orphaned);
                assert!(table.get(key).is_none() && table.get_mut(key).is_none());
                assert!(table.remove(key).is_none() && table.next(key).is_none());
            }
            // All of one descriptor, as a close does.
            7 => {
                let fd = FDS[pick % 8];
                while let Some(key) = table.first(fd) {
                    assert!(table.remove(key).is_some());
                    dead.push(key);
                }
                list.retain(|entry| entry.fd != fd);
            }
            _ => {}
        }
        compare(&mut table, &list);
    }
});

fn insert(table: &mut OpTable, list: &mut Vec<Entry>, fd: i32, token: u64, what: u8) {
    let op = match what % 3 {
        0 => Op::recv(Token(token)),
        _ => Op::Poll { token: Token(token), mask: 1, accept: what % 3 == 1 },
    };
    let phase = PHASES[usize::from(what) / 3 % 3];
    let key = table.insert(fd, op, phase);
    assert!(list.iter().all(|entry| entry.key != key), "a key of two operations");
    list.push(Entry { key, fd, token, phase });
}

fn token(op: &Op) -> u64 {
    match op {
        Op::Recv { token, .. } | Op::Poll { token, .. } => token.0,
        Op::Send(_) => unreachable!("none was sent"),
    }
}

fn compare(table: &mut OpTable, list: &[Entry]) {
    assert_eq!(table.live(), list.len());
    let keys = table.keys();
    assert!(keys.len() == list.len() && keys.iter().all(|key| list.iter().any(|entry| entry.key == *key)));
    for entry in list {
        let (fd, phase, op) = table.get(entry.key).expect("it lives");
        assert_eq!((fd, phase, token(op)), (entry.fd, entry.phase, entry.token));
        let (fd, phase, op) = table.get_mut(entry.key).expect("it lives");
        assert_eq!((fd, phase, token(op)), (entry.fd, entry.phase, entry.token));
    }
    for fd in FDS {
        // The last comes first.
        let chain: Vec<OpKey> = std::iter::successors(table.first(fd), |key| table.next(*key)).collect();
        let expected: Vec<OpKey> =
            list.iter().rev().filter(|entry| entry.fd == fd).map(|entry| entry.key).collect();
        assert_eq!(chain, expected);
    }
}
