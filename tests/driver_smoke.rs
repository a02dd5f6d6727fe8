//! A first sign of life of both kernel back ends.
use _rgunicorn::io::*;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
#[test]
fn smoke() {
    for choice in [Choice::Uring, Choice::Epoll] {
        let (mut d, report) = Driver::open(&Config {
            choice,
            ..Config::torture()
        })
        .unwrap();
        println!("{report}");
        let (a, mut b) = UnixStream::pair().unwrap();
        let _op = d.recv(a.as_raw_fd(), Token(7)).unwrap();
        b.write_all(b"hello").unwrap();
        let mut out = vec![];
        d.wait(None, &mut out).unwrap();
        println!("{out:?}");
        match out.pop() {
            Some(Completion::Recv {
                outcome: Received::Data(buf),
                ..
            }) => {
                assert_eq!(d.buffer(&buf), b"hello");
                d.release(buf)
            }
            x => panic!("{x:?}"),
        }
        for urgency in [Urgency::Now, Urgency::Batch] {
            let buf = SendBuf {
                head: b"head".to_vec(),
                body: bytes::Bytes::from_static(b"body"),
            };
            let s = d.send(a.as_raw_fd(), Token(8), buf, urgency);
            println!("{s:?}");
            if let Sent::Pending(_) = s {
                d.wait(None, &mut out).unwrap();
                println!("{out:?}");
                out.clear();
            }
            let mut got = [0; 8];
            b.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"headbody");
        }
        d.close(std::os::fd::OwnedFd::from(a).into());
        assert_eq!(b.read(&mut [0; 1]).unwrap(), 0);
        println!("{:?}", d.stats());
    }
}
