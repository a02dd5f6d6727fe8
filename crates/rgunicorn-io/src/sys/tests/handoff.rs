//! The queue: what is taken is what was given, once.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

fn given(queue: &HandoffQueue, message: &[u8]) -> UnixStream {
    let (client, server) = UnixStream::pair().unwrap();
    give(queue.ends().give, server.as_raw_fd(), message).unwrap();
    client
}

#[test]
fn a_connection_comes_out_as_it_went_in() {
    let queue = HandoffQueue::new().unwrap();
    let mut client = given(&queue, b"about it");
    client.write_all(b"ping").unwrap();
    let (connection, message) = take(queue.ends().take).unwrap();
    assert_eq!(message, b"about it");
    let mut server = UnixStream::from(connection);
    let mut seen = [0; 4];
    server.read_exact(&mut seen).unwrap();
    server.write_all(&seen).unwrap();
    client.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"ping");
    drop(server);
    assert_eq!(client.read(&mut seen).unwrap(), 0, "there is no other copy");
}

#[test]
fn messages_keep_their_order_and_their_ends() {
    let queue = HandoffQueue::new().unwrap();
    let _clients =
        [given(&queue, b"one"), given(&queue, &[7; HANDOFF_MESSAGE_BYTES_MAX]), given(&queue, b"three")];
    let messages: Vec<_> = (0..3).map(|_| take(queue.ends().take).unwrap().1).collect();
    assert_eq!(messages, [b"one".to_vec(), vec![7; HANDOFF_MESSAGE_BYTES_MAX], b"three".to_vec()]);
    assert_eq!(take(queue.ends().take).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_full_queue_takes_no_more_and_has_room_again() {
    let queue = HandoffQueue::new().unwrap();
    let (_client, server) = UnixStream::pair().unwrap();
    let try_one = || give(queue.ends().give, server.as_raw_fd(), b"x");
    let (count, full) = (0..1000).find_map(|count| try_one().err().map(|error| (count, error))).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert!((8..64).contains(&count), "{count}");
    take(queue.ends().take).unwrap();
    try_one().unwrap();
}

#[test]
fn what_nobody_takes_ends_with_the_queue() {
    let queue = HandoffQueue::new().unwrap();
    let mut client = given(&queue, b"lost");
    drop(queue);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_message_without_a_connection_is_none() {
    let queue = HandoffQueue::new().unwrap();
    let sent = sendmsg::<()>(queue.ends().give, &[IoSlice::new(b"only words")], &[], MsgFlags::empty(), None);
    assert_eq!(sent, Ok(10));
    assert_eq!(take(queue.ends().take).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn nor_is_one_with_several_and_none_of_them_stays_open() {
    let queue = HandoffQueue::new().unwrap();
    let [(mut one, first), (mut two, second)] = [UnixStream::pair().unwrap(), UnixStream::pair().unwrap()];
    let rights = [first.as_raw_fd(), second.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(queue.ends().give, &[IoSlice::new(b"two")], &control, MsgFlags::empty(), None).unwrap();
    drop((first, second));
    assert_eq!(take(queue.ends().take).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!((one.read(&mut [0]).unwrap(), two.read(&mut [0]).unwrap()), (0, 0));
}

#[test]
fn a_descriptor_that_is_none_is_not_given() {
    let queue = HandoffQueue::new().unwrap();
    assert_eq!(give(queue.ends().give, -1, b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(take(queue.ends().take).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
