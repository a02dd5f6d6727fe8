//! What does each kind of value take, and what does it say otherwise?

use super::{from_file, shown, text};
use crate::Raw;

fn list(items: &[&str]) -> Raw {
    Raw::List(items.iter().map(|item| text(item)).collect())
}

fn other(type_name: &str, repr: &str) -> Raw {
    Raw::Other { type_name: type_name.to_owned(), repr: repr.to_owned() }
}

#[test]
fn taken_values() {
    for (name, raw, value) in [
        ("workers", Raw::Int(3), "3"),
        ("workers", Raw::Bool(true), "1"),
        ("workers", text("0x10"), "16"),
        ("workers", text("0o17"), "15"),
        ("workers", text("0b11"), "3"),
        ("workers", text(" 7 "), "7"),
        ("workers", text("1_0"), "10"),
        ("workers", text("+5"), "5"),
        ("workers", text("00"), "0"),
        ("workers", text("0x_1F"), "31"),
        ("umask", text("0o77"), "63"),
        ("preload_app", Raw::Bool(true), "True"),
        ("preload_app", text(" TRUE"), "True"),
        ("preload_app", text("false"), "False"),
        ("bind", text(" a:1 "), "['a:1']"),
        ("bind", list(&["a", "b", " c "]), "['a', 'b', 'c']"),
        ("bind", Raw::List(vec![]), "[]"),
        ("bind", Raw::None, "[]"),
        ("bind", text(""), "[]"),
        ("accesslog", text(" - "), "-"),
        ("accesslog", Raw::None, "None"),
        ("pidfile", Raw::None, "None"),
        ("user", Raw::None, "None"),
        ("user", Raw::Int(33), "33"),
        ("user", text("www-data"), "www-data"),
        ("errorlog", Raw::None, "-"),
        ("loglevel", text("blub"), "blub"),
        ("header_map", text("REFUSE "), "refuse"),
        ("forwarder_headers", text("A, B,,C "), "['A', 'B', 'C']"),
        ("forwarder_headers", text(""), "[]"),
        ("forwarded_allow_ips", text("10.0.0.0/8, ::1,*"), "['10.0.0.0/8', '::1', '*']"),
        ("forwarded_allow_ips", text("10.0.0.0/255.0.0.0"), "['10.0.0.0/255.0.0.0']"),
        ("forwarded_allow_ips", Raw::None, "[]"),
        ("secure_scheme_headers", Raw::Dict(vec![("X".to_owned(), text("y"))]), "{'X': 'y'}"),
        ("worker_class", Raw::None, "sync"),
        ("worker_class", other("type", "<class 'x.Y'>"), "<class 'x.Y'>"),
        ("config", text("other.py"), "./gunicorn.conf.py"),
        ("http_parser", text("fast"), "fast"),
    ] {
        let settings = from_file(name, raw.clone()).unwrap_or_else(|invalid| panic!("{raw:?}: {invalid}"));
        assert_eq!(shown(&settings, name), value, "{name} = {raw:?}");
    }
}

fn assert_refused(name: &str, raw: Raw, shown: &str, reason: &str) {
    let invalid = from_file(name, raw).expect_err(reason);
    assert_eq!(invalid.to_string(), format!("Invalid value for {name}: {shown}\nError: {name}: {reason}"));
}

#[test]
fn refused_ints() {
    let huge = "1267650600228229401496703205376";
    for (name, raw, fault) in [
        ("workers", text("abc"), "is not an integer"),
        ("workers", text(""), "is not an integer"),
        ("workers", text("010"), "is not an integer"),
        ("workers", text("1__0"), "is not an integer"),
        ("workers", text("_1"), "is not an integer"),
        ("workers", text("1_"), "is not an integer"),
        ("workers", text("0x"), "is not an integer"),
        ("workers", text("é"), "is not an integer"),
        ("workers", text("- 1"), "is not an integer"),
        ("workers", text("-0x1"), "is negative"),
        ("workers", text(huge), "is too large"),
        ("workers", Raw::Int(-1), "is negative"),
        ("workers", Raw::None, "is not an integer"),
        ("workers", Raw::Int(1 << 40), "is too large"),
        ("workers", other("int", huge), "is too large"),
        ("workers", other("int", "-1267650600228229401496703205376"), "is negative"),
        ("workers", other("float", "2.5"), "is not an integer"),
        ("umask", text("077"), "is not an integer"),
    ] {
        let reason = format!("{} {fault} (allowed: 0 to 4294967295; as text also 0x, 0o, 0b)", raw.repr());
        assert_refused(name, raw.clone(), &raw.to_string(), &reason);
    }
}

#[test]
fn refused_texts() {
    for (name, raw, reason) in [
        ("accesslog", Raw::Int(3), "3 is not a string"),
        ("chdir", Raw::Bool(true), "True is not a string"),
        ("worker_class", Raw::Int(3), "3 is not a string"),
        ("config", Raw::Int(3), "3 is not a string"),
        ("header_map", text("x"), "'x' is unknown (allowed: drop, refuse, dangerous)"),
        ("io_driver", text("kqueue"), "'kqueue' is unknown (allowed: auto, uring, epoll)"),
        ("user", other("float", "1.5"), "1.5 is neither a name nor a number"),
        ("user", Raw::Int(-1), "-1 is neither a name nor a number"),
        ("preload_app", text("x"), "'x' is not a boolean (allowed: True, False)"),
        ("preload_app", Raw::Int(1), "1 is not a boolean (allowed: True, False)"),
    ] {
        assert_refused(name, raw.clone(), &raw.to_string(), reason);
    }
}

#[test]
fn refused_collections() {
    let mixed = || Raw::List(vec![text("a"), Raw::Int(1)]);
    let pairs = || Raw::Dict(vec![("X".to_owned(), Raw::Int(1))]);
    let one = "['A'] is not a string (allowed: one string, items separated by commas)";
    let bits = "1.2.3.4/8 has host bits set (allowed: IP addresses, networks, *)";
    for (name, raw, reason) in [
        ("bind", Raw::Int(3), "3 is neither a string nor a list of strings"),
        ("bind", mixed(), "1 in the list is not a string"),
        ("forwarder_headers", list(&["A"]), one),
        ("forwarded_allow_ips", list(&["A"]), one),
        ("forwarded_allow_ips", text("1.2.3.4/8"), bits),
        ("secure_scheme_headers", Raw::None, "None is not a dictionary"),
        ("secure_scheme_headers", pairs(), "the value 1 of 'X' is not a string"),
    ] {
        assert_refused(name, raw.clone(), &raw.to_string(), reason);
    }
}

#[test]
fn raw_values_print_as_python_prints_them() {
    for (raw, str_form, repr) in [
        (Raw::None, "None", "None"),
        (Raw::Bool(false), "False", "False"),
        (text("a'b"), "a'b", "\"a'b\""),
        (text("a'\"b"), "a'\"b", "'a\\'\"b'"),
        (text("\\\n\x07\u{85}é"), "\\\n\x07\u{85}é", r"'\\\n\x07\x85é'"),
        (Raw::List(vec![text("a"), Raw::None]), "['a', None]", "['a', None]"),
        (Raw::Dict(vec![("k".to_owned(), text("v"))]), "{'k': 'v'}", "{'k': 'v'}"),
    ] {
        assert_eq!((raw.to_string().as_str(), raw.repr().as_str()), (str_form, repr));
    }
}
