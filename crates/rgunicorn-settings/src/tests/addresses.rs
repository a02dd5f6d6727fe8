//! Which addresses are understood, and which peers are trusted?

use std::net::IpAddr;

use proptest::prelude::*;

use crate::address::check_statsd;
use crate::{BindAddress, Network, Networks, split_cmd_args};

fn tcp(host: &str, port: u16) -> BindAddress {
    BindAddress::Tcp { host: host.to_owned(), port }
}

#[test]
fn bind_texts() {
    for (text, address, shown) in [
        ("127.0.0.1:8001", tcp("127.0.0.1", 8001), "http://127.0.0.1:8001"),
        ("localhost", tcp("localhost", 8000), "http://localhost:8000"),
        ("LOCALHOST:1", tcp("localhost", 1), "http://localhost:1"),
        (":9000", tcp("0.0.0.0", 9000), "http://0.0.0.0:9000"),
        ("", tcp("0.0.0.0", 8000), "http://0.0.0.0:8000"),
        ("[::1]:0", tcp("::1", 0), "http://[::1]:0"),
        ("[::1]", tcp("::1", 8000), "http://[::1]:8000"),
        ("tcp://[FE80::1]:65535", tcp("fe80::1", 65535), "http://[fe80::1]:65535"),
        ("tcp://h", tcp("h", 8000), "http://h:8000"),
        ("/run/x.sock", tcp("/run/x.sock", 8000), "http:///run/x.sock:8000"),
        ("unix:/run/X.sock", BindAddress::Unix("/run/X.sock".to_owned()), "unix:/run/X.sock"),
        ("unix://x.sock", BindAddress::Unix("x.sock".to_owned()), "unix:x.sock"),
        ("unix:///x.sock", BindAddress::Unix("/x.sock".to_owned()), "unix:/x.sock"),
        ("unix:\0name", BindAddress::Abstract("name".to_owned()), "unix:@name"),
        ("fd://3", BindAddress::Fd(3), "fd://3"),
    ] {
        assert_eq!(BindAddress::parse(text), Ok(address.clone()), "{text:?}");
        assert_eq!(address.to_string(), shown);
    }
}

#[test]
fn bad_bind_texts() {
    for (text, fault) in [
        ("127.0.0.1:99999", "'99999' is no port (0 to 65535)"),
        ("127.0.0.1:x", "'x' is no port"),
        ("127.0.0.1:", "'' is no port"),
        ("h:-1", "'-1' is no port"),
        ("::1", "needs brackets"),
        ("[::1", "not closed"),
        ("[::1]x", "'x' after the bracket"),
        ("unix:", "empty"),
        ("unix:a\0b", "NUL"),
        ("fd://x", "no file descriptor"),
        ("fd://-1", "no file descriptor"),
        ("fd://4294967295", "no file descriptor"),
    ] {
        let message = BindAddress::parse(text).expect_err(text).to_string();
        assert!(message.contains(fault) && message.contains(&super::text(text).repr()), "{message}");
    }
}

#[test]
fn networks() {
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", "11.0.0.0"),
        ("10.0.0.0/0.255.255.255", "10.1.2.3", "11.0.0.0"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("0.0.0.0/0", "255.1.2.3", "::1"),
        ("0.0.0.0/0.0.0.0", "255.1.2.3", "::"),
        ("::/0", "2001:db8::1", "0.0.0.1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("::1/128", "::1", "::ffff:127.0.0.1"),
    ] {
        let parsed = Network::parse(network).unwrap();
        assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
        assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
    }
    for text in [
        "",
        "x",
        "1.2.3",
        "1.2.3.4/33",
        "1.2.3.4/",
        "::/129",
        "::/255.0.0.0",
        "1.2.3.0/255.0.255.0",
        "01.2.3.4",
        "1.2.3.4/+8",
    ] {
        assert!(Network::parse(text).unwrap_err().contains("does not appear"), "{text}");
    }
    assert_eq!(Network::parse("1.2.3.4/8"), Err("1.2.3.4/8 has host bits set".to_owned()));
}

#[test]
fn trust() {
    let some = Networks::parse(&["10.0.0.0/8", "::1"]).unwrap();
    let peer = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert!(some.trusts(peer("10.1.1.1")) && some.trusts(peer("::1")) && some.trusts(None));
    assert!(!some.trusts(peer("127.0.0.1")));
    assert!(Networks::parse(&["*"]).unwrap().trusts(peer("8.8.8.8")));
    let none = Networks::parse::<&str>(&[]).unwrap();
    assert!(!none.trusts(peer("127.0.0.1")) && none.trusts(None));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = BindAddress::parse(&text);
        let _ = Network::parse(&text);
        let _ = split_cmd_args(&text);
    }

    #[test]
    fn quoted_words_come_back(words in prop::collection::vec("[^'\0]*", 0..5)) {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        prop_assert_eq!(split_cmd_args(&quoted.join(" ")).unwrap(), words);
    }

    #[test]
    fn a_network_contains_its_own_addresses(bits in 0u32..=32, base: u32, host: u32) {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let address = |bits: u32| std::net::Ipv4Addr::from_bits(bits);
        let network = Network::parse(&format!("{}/{bits}", address(base & mask))).unwrap();
        prop_assert!(network.contains(address((base & mask) | (host & !mask)).into()));
        prop_assert_eq!(network.contains(address(host).into()), host & mask == base & mask);
    }
}

#[test]
fn addresses_of_a_statsd_server() {
    for good in [
        "localhost",
        "localhost:8125",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8125",
        "unix:/run/statsd.sock",
        "unix:statsd.sock",
        "unix:///run/statsd.sock",
        "unix://statsd.sock",
        "unix:8125",
    ] {
        assert_eq!(check_statsd(good), Ok(()), "{good}");
    }
    for (bad, fault) in [
        ("udp://localhost:8125", "'udp' is no scheme of a statsd server"),
        ("tcp://localhost:8125", "'tcp' is no scheme of a statsd server"),
        ("::1", "an IPv6 address needs brackets"),
        ("[::1", "the bracket is not closed"),
        ("localhost:statsd", "'statsd' is no port (0 to 65535)"),
        ("localhost:70000", "'70000' is no port (0 to 65535)"),
        ("localhost:0", "there is no port 0"),
        (":8125", "the host is missing"),
        ("", "the host is missing"),
        ("unix:", "the path is empty"),
        ("unix://", "the path is empty"),
        ("unix:99999", "'99999' is no port (0 to 65535)"),
    ] {
        let allowed = "(allowed: HOST:PORT, HOST, [IPV6]:PORT, unix:PATH, unix://PATH)";
        let reason = check_statsd(bad).unwrap_err();
        assert_eq!(reason, format!("'{bad}' is no address: {fault} {allowed}"));
    }
}
