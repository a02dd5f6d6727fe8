//! What a service manager is told, and when.

use super::*;

const PERIOD: Duration = Duration::from_millis(50);

/// A started master with a service manager, none of whose workers has booted.
fn unbooted(workers: u32, watchdog: Option<Duration>) -> World {
    let mut world = World::unbooted(0);
    world.state = MasterState::new(limits(workers)).notifying(watchdog);
    world.reload = Ok(limits(workers));
    world.feed(MasterEvent::Started);
    world
}

fn serving(workers: u32) -> World {
    let mut world = unbooted(workers, None);
    world.boot_all();
    world
}

fn notices(actions: &[Action]) -> Vec<NotifyMessage> {
    let notice = |action: &Action| if let Action::Notify(notice) = action { Some(*notice) } else { None };
    actions.iter().filter_map(notice).collect()
}

#[test]
fn ready_when_the_first_worker_has_booted() {
    let mut world = unbooted(2, None);
    assert_eq!(world.state.wait(world.now), PERIOD, "the boot is noticed soon");
    assert_eq!(notices(&world.tick()), []);
    assert_eq!(notices(&world.boot(2)), [NotifyMessage::Ready(1, 2)]);
    assert!(world.state.wait(world.now) > PERIOD);
    assert_eq!(notices(&world.boot(1)), [NotifyMessage::Workers(2, 2)]);
    assert_eq!(notices(&world.tick()), []);
    assert_eq!(notices(&world.signal(Signal::TTIN)), [NotifyMessage::Workers(2, 3)]);
}

#[test]
fn a_server_without_workers_waits_for_none() {
    let mut world = World::unbooted(0);
    world.state = MasterState::new(limits(0)).notifying(None);
    assert_eq!(notices(&world.feed(MasterEvent::Started)), [NotifyMessage::Ready(0, 0)]);
}

#[test]
fn nobody_is_told_unless_somebody_listens() {
    let mut world = World::serving(2);
    let mut actions = world.signal(Signal::HUP);
    actions.extend(world.boot(3));
    actions.extend(world.signal(Signal::TERM));
    assert_eq!(notices(&actions), []);
}

#[test]
fn a_reload_ends_when_the_new_workers_serve() {
    let mut world = serving(2);
    let actions = world.signal(Signal::HUP);
    assert_eq!(notices(&actions), [NotifyMessage::Reloading]);
    let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
    assert!(place(&Action::Notify(NotifyMessage::Reloading)) < place(&Action::Reload));
    assert_eq!(notices(&world.boot(3)), []);
    assert_eq!(notices(&world.boot(4)), [NotifyMessage::Ready(2, 2)]);
}

#[test]
fn a_reload_that_fails_ends_as_well() {
    let mut world = serving(1);
    world.reload = Err("broken");
    assert_eq!(notices(&world.signal(Signal::HUP)), [NotifyMessage::Reloading, NotifyMessage::Ready(1, 1)]);
    world.reload = Ok(limits(1));
    assert_eq!(notices(&world.signal(Signal::HUP)), [NotifyMessage::Reloading]);
    assert_eq!(notices(&world.end(2, ChildExit::Code(3))), [NotifyMessage::Ready(1, 1)]);
    // One that gives up another.
    assert_eq!(notices(&world.signal(Signal::HUP)), [NotifyMessage::Reloading]);
    assert_eq!(notices(&world.signal(Signal::HUP)), [NotifyMessage::Reloading]);
}

#[test]
fn a_reload_before_the_first_boot_is_no_news() {
    let mut world = unbooted(1, None);
    assert_eq!(notices(&world.signal(Signal::HUP)), []);
    assert_eq!(notices(&world.boot(2)), [NotifyMessage::Ready(1, 1)]);
}

#[test]
fn the_end() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut world = serving(1);
        assert_eq!(notices(&world.signal(signal)), [NotifyMessage::Stopping]);
        assert_eq!(notices(&world.signal(signal)), []);
        assert_eq!(notices(&world.end(1, ChildExit::Code(0))), []);
    }
    let mut world = unbooted(1, None);
    assert_eq!(notices(&world.end(1, ChildExit::Code(3))), [NotifyMessage::Stopping]);
}

#[test]
fn with_a_new_master_it_is_not_the_service_that_ends() {
    let mut world = serving(1);
    world.signal(Signal::USR2);
    assert_eq!(notices(&world.signal(Signal::TERM)), [NotifyMessage::Successor(NEW_MASTER)]);
}

#[test]
fn a_new_master_is_silent_until_it_is_promoted() {
    let mut world = unbooted(1, Some(SECOND * 2));
    world.state = MasterState::new(limits(1)).started_by(Some(OLD_MASTER)).notifying(Some(SECOND * 2));
    world.board.clear();
    world.feed(MasterEvent::Started);
    assert_eq!(notices(&world.boot(1)), []);
    assert_eq!(notices(&world.pass(SECOND * 2)), []);
    assert_eq!(notices(&world.signal(Signal::HUP)), []);
    let promoted = world.feed(MasterEvent::Parent(1));
    assert_eq!(notices(&promoted), [NotifyMessage::Alive, NotifyMessage::Ready(1, 1)]);

    let mut world = World::unbooted(0);
    world.state = MasterState::new(limits(0)).started_by(Some(OLD_MASTER)).notifying(None);
    world.feed(MasterEvent::Started);
    assert_eq!(notices(&world.signal(Signal::TERM)), []);
}

#[test]
fn signs_of_life() {
    let mut world = unbooted(1, Some(SECOND));
    world.boot_all();
    assert!(world.state.wait(world.now) <= SECOND / 2);
    assert_eq!(notices(&world.pass(SECOND / 4)), []);
    assert_eq!(notices(&world.pass(SECOND / 4)), [NotifyMessage::Alive]);
    assert_eq!(notices(&world.pass(SECOND / 4)), []);
    world.signal(Signal::TERM);
    assert_eq!(notices(&world.pass(SECOND)), [NotifyMessage::Alive], "also while workers are waited for");
    assert!(world.state.wait(world.now) <= SECOND / 2);
}

#[test]
fn the_words() {
    let now = Instant(0).after(Duration::from_nanos(1_234_567_890));
    for (notice, text) in [
        (NotifyMessage::Ready(1, 2), "READY=1\nSTATUS=1 of 2 workers serve\n"),
        (NotifyMessage::Workers(2, 2), "STATUS=2 of 2 workers serve\n"),
        (NotifyMessage::Reloading, "RELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=Reloading\n"),
        (NotifyMessage::Stopping, "STOPPING=1\nSTATUS=Waiting for requests in progress\n"),
        (NotifyMessage::Successor(7), "MAINPID=7\nSTATUS=A new master has taken over\n"),
        (NotifyMessage::Alive, "WATCHDOG=1\n"),
    ] {
        assert_eq!(notice.text(now), text);
    }
}
