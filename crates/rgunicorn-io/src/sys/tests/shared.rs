//! The score-board: slots are claimed, read from another process, and cleared.

use super::*;

#[test]
fn a_slot_tells_what_its_worker_wrote() {
    let board = Scoreboard::new().unwrap();
    let slot = board.claim(7).unwrap();
    assert_eq!((slot.read().age, slot.read().beat, slot.read().booted), (7, None, false));
    slot.beat(Instant(5));
    slot.set_booted();
    slot.add_request();
    slot.add_request();
    slot.set_connections(3);
    slot.set_accepting(Accepting::BusyDisarmed);
    slot.set_leaving();
    let expected = SlotReading {
        age: 7,
        beat: Some(Instant(5)),
        booted: true,
        connections: 3,
        requests: 2,
        accepting: Accepting::BusyDisarmed,
        leaving: true,
    };
    assert_eq!(slot.read(), expected);
    assert_eq!(board.readings().collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_released_slot_is_reused_clean() {
    let board = Scoreboard::new().unwrap();
    let (first, second) = (board.claim(1).unwrap(), board.claim(2).unwrap());
    first.set_booted();
    first.beat(Instant(9));
    first.set_connections(5);
    first.set_accepting(Accepting::Waiting);
    first.set_leaving();
    first.add_request();
    first.mark_replaced();
    first.set_stuck(Some(Instant(3)));
    assert!(first.is_replaced() && !second.is_replaced());
    first.release();
    assert_eq!(board.readings().map(|reading| reading.age).collect::<Vec<_>>(), [2]);
    let third = board.claim(3).unwrap();
    assert_eq!(third.index, first.index);
    assert_eq!(third.read(), SlotReading { age: 3, ..untold(&board) });
    third.beat(Instant(9));
    assert_eq!(third.read().beat, Some(Instant(9)));
    assert!(!third.is_replaced());
    assert_eq!(second.read().age, 2);
}

#[test]
fn the_board_is_full_at_its_capacity_and_its_last_slot_is_its_own_memory() {
    let board = Scoreboard::new().unwrap();
    let slots: Vec<Slot> = (1..=u64::from(SLOTS_MAX)).map(|age| board.claim(age).unwrap()).collect();
    assert!(board.claim(9999).is_none());
    slots.iter().for_each(|slot| slot.set_connections(slot.read().age as u32));
    assert!(board.readings().all(|reading| u64::from(reading.connections) == reading.age));
    assert_eq!(board.readings().count(), SLOTS_MAX as usize);
}

#[test]
fn a_beat_at_the_clock_s_zero_is_a_beat() {
    let slot = Scoreboard::new().unwrap().claim(1).unwrap();
    slot.beat(Instant(0));
    assert!(slot.read().beat.is_some());
}

#[test]
fn beats_of_a_stuck_worker_count_up_to_when_it_got_stuck() {
    let slot = Scoreboard::new().unwrap().claim(1).unwrap();
    slot.set_stuck(Some(Instant(0)));
    assert_eq!(slot.read().beat, None, "the watch over it begins with its first beat");
    slot.beat(Instant(7));
    assert_eq!(slot.read().beat, Some(Instant(1)));
    slot.set_stuck(Some(Instant(9)));
    assert_eq!(slot.read().beat, Some(Instant(7)));
    slot.beat(Instant(20));
    assert_eq!(slot.read().beat, Some(Instant(9)));
    slot.set_stuck(None);
    assert_eq!(slot.read().beat, Some(Instant(20)));
}

#[test]
fn the_wanted_number_is_shared_and_outlives_the_first_handle() {
    let board = Scoreboard::new().unwrap();
    let slot = board.claim(1).unwrap();
    board.set_workers(12);
    drop(board);
    assert_eq!(slot.board().workers(), 12);
}

#[test]
fn writers_do_not_lose_each_other_s_counts() {
    let board = Scoreboard::new().unwrap();
    let slots: Vec<Slot> = (1..5).map(|age| board.claim(age).unwrap()).collect();
    std::thread::scope(|scope| {
        for slot in &slots {
            scope.spawn(|| {
                (0..10_000).for_each(|_| {
                    slot.add_request();
                })
            });
        }
    });
    assert!(board.readings().all(|reading| reading.requests == 10_000));
}

/// What a worker tells that has told nothing.
fn untold(board: &Scoreboard) -> SlotReading {
    board.claim(4).unwrap().read()
}

fn rings(board: &Scoreboard) -> bool {
    let mut poll = [nix::poll::PollFd::new(board.master_wakeup(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut poll, 0u8).unwrap() == 1
}

#[test]
fn who_has_booted_or_leaves_rings_once() {
    let board = Scoreboard::new().unwrap();
    let slot = board.claim(1).unwrap();
    for tell in [Slot::set_booted, Slot::set_leaving] {
        assert!(!rings(&board));
        tell(&slot);
        assert!(rings(&board));
        board.drain_master_wakeup().unwrap();
        board.drain_master_wakeup().unwrap();
    }
    slot.set_leaving();
    assert!(!rings(&board), "it has said so");
}

#[test]
fn a_child_that_the_application_forks_says_nothing_about_its_parent() {
    let board = Scoreboard::new().unwrap();
    let slot = board.claim(1).unwrap();
    slot.set_requests(7);
    let before = slot.read();
    // SAFETY: the child only stores to shared memory and leaves.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        slot.set_leaving();
        slot.set_booted();
        slot.beat(Instant(5));
        slot.set_stuck(Some(Instant(5)));
        slot.set_accepting(Accepting::Waiting);
        slot.set_connections(5);
        slot.set_requests(0);
        slot.mark_replaced();
        let counted = slot.add_request();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(counted != 7 || slot.begin_recycling() && board.workers() > 1)) };
    }
    assert_eq!(wait_for(pid), 0);
    assert_eq!((slot.read(), slot.is_replaced(), rings(&board)), (before, false, false));
    // The worker itself is a child, too.
    // SAFETY: the child only stores to shared memory and leaves.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        slot.claim_for_child().set_leaving();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(wait_for(pid), 0);
    assert!(slot.read().leaving && rings(&board));
}

fn wait_for(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: waits for a child of this test's.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}

#[test]
fn a_worker_is_alone_without_siblings_and_without_another_master() {
    let board = Scoreboard::new().unwrap();
    board.set_workers(1);
    let first = board.claim(1).unwrap();
    assert!(board.is_only_worker());
    board.set_workers(2);
    assert!(!board.is_only_worker(), "the other one is about to be forked");
    board.set_workers(1);
    let second = board.claim(2).unwrap();
    assert!(!board.is_only_worker(), "wanted or not");
    first.release();
    first.release();
    assert!(board.is_only_worker());
    board.set_other_master(true);
    assert!(!board.is_only_worker() && board.has_other_master());
    board.set_other_master(false);
    second.release();
    assert!(board.is_only_worker());
}

#[test]
fn who_uses_wake_ups_up_and_does_not_accept() {
    let board = Scoreboard::new().unwrap();
    let slot = board.claim(1).unwrap();
    let swallows = |accepting| {
        slot.set_accepting(accepting);
        slot.read().may_lose_wakeup()
    };
    let all = [Accepting::No, Accepting::BusyDisarmed, Accepting::Waiting, Accepting::BusyArmed];
    assert_eq!(all.map(swallows), [false, false, false, true]);
    slot.set_leaving();
    assert_eq!(all.map(swallows), [false, false, true, true]);
}

#[test]
fn one_worker_at_a_time_recycles_itself() {
    let board = Scoreboard::new().unwrap();
    let slots: Vec<Slot> = (1..4).map(|age| board.claim(age).unwrap()).collect();
    board.set_workers(1);
    assert!(slots[0].begin_recycling() && slots[1].begin_recycling(), "whoever is alone asks nobody");
    assert_eq!(board.recycling(), None);
    board.set_workers(3);
    slots[..2].iter().for_each(Slot::set_booted);
    assert!(!slots[0].begin_recycling(), "a third one has not booted");
    slots[2].set_booted();
    assert!(slots[0].begin_recycling());
    assert!(!slots[1].begin_recycling(), "one is leaving");
    assert_eq!(board.recycling(), Some(1));
    slots[0].set_leaving();
    board.end_recycling(2);
    assert_eq!(board.recycling(), Some(1), "it is not the second one's");
    slots[0].release();
    board.end_recycling(1);
    assert!(!slots[1].begin_recycling(), "its replacement has not booted");
    board.claim(4).unwrap().set_booted();
    assert!(slots[1].begin_recycling());
}

#[test]
fn of_many_that_ask_at_once_one_gets_the_permit() {
    for _ in 0..50 {
        let board = Scoreboard::new().unwrap();
        let slots: Vec<Slot> = (1..5).map(|age| board.claim(age).unwrap()).collect();
        board.set_workers(4);
        slots.iter().for_each(Slot::set_booted);
        let granted: usize = std::thread::scope(|scope| {
            let asking = slots.iter().map(|slot| scope.spawn(|| usize::from(slot.begin_recycling())));
            asking.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 1);
    }
}
