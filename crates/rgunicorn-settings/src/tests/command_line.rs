//! What does the command line take, and what does it say otherwise?

use std::time::Duration;

use super::{from_line, line};
use crate::{CommandExit, IoDriver, ROWS, Section, help, parse_command_line, split_cmd_args};

fn exit(args: &[&str]) -> CommandExit {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    parse_command_line("rgunicorn", "1.2.3", &args).expect_err("parsed")
}

#[test]
fn options_and_app_come_in_any_order_and_spelling() {
    for args in [
        &["app:app", "-w4", "--keep-alive", "7", "-k", "uring"][..],
        &["-w", "4", "--keep=7", "app:app", "-kuring"],
        &["--workers=4", "--keep-alive=7", "--worker-class", "uring", "app:app"],
        &["-w", "9", "-w", "4", "app:app", "--keep", "7", "--worker-cl", "uring"],
        &["-w", " 4 ", "--keep-alive", "0_7", "-k=uring", "--", "app:app", "ignored"],
    ] {
        let settings = from_line(args).unwrap();
        assert_eq!(settings.app(), Some("app:app"), "{args:?}");
        assert_eq!(settings.workers(), 4, "{args:?}");
        assert_eq!(settings.keepalive(), Duration::from_secs(7), "{args:?}");
        assert_eq!(settings.worker_class(), "uring", "{args:?}");
    }
}

#[test]
fn values_of_each_kind_arrive() {
    let settings = from_line(&[
        "-b",
        "a:1",
        "--bind",
        "unix:/x",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--preload",
        "-m",
        "022",
        "--log-file",
        "-",
        "--access-logfile",
        "-",
        "--io-driver",
        "EPOLL",
        "--access-logformat",
        "%(h)s",
        "-p",
        "/run/x.pid",
    ])
    .unwrap();
    assert_eq!(settings.bind(), ["a:1", "unix:/x"]);
    assert_eq!(settings.raw_env(), ["A=1", "B=2"]);
    assert!(settings.preload_app());
    assert_eq!(settings.umask(), 0o22);
    assert_eq!(settings.errorlog(), "-");
    assert_eq!(settings.accesslog(), Some("-"));
    assert_eq!(settings.io_driver(), IoDriver::Epoll);
    assert_eq!(settings.access_log_format(), "%(h)s");
    assert_eq!(settings.pidfile(), Some("/run/x.pid"));
}

#[test]
fn usage_errors_speak_as_argparse() {
    for (args, words) in [
        (&["-w", "x", "app:app"][..], "argument -w/--workers: invalid int value: 'x'"),
        (&["--time", "0x10"], "argument -t/--timeout: invalid int value: '0x10'"),
        (&["--nonsense"], "unrecognized arguments: --nonsense"),
        (&["--preload-app"], "unrecognized arguments: --preload-app (did you mean --preload?)"),
        (&["--accesslog", "-"], "unrecognized arguments: --accesslog (did you mean --access-logfile?)"),
        (&["--errorlog", "-"], "unrecognized arguments: --errorlog (did you mean --error-logfile?)"),
        (&["--wrokers", "3"], "unrecognized arguments: --wrokers (did you mean --workers?)"),
        (&["-x"], "unrecognized arguments: -x"),
        (&["--max", "3"], "ambiguous option: --max could match --max-requests, --max-requests-jitter"),
        (&["--workers"], "argument -w/--workers: expected one argument"),
        (&["-w"], "argument -w/--workers: expected one argument"),
        (&["--bind", "--preload"], "argument -b/--bind: expected one argument"),
        (&["--preload=1", "app:app"], "argument --preload: ignored explicit argument '1'"),
        (&["app:app", "-w", "2", "other"], "unrecognized arguments: other"),
        (
            &["-w", "99999999999999999999"],
            "argument -w/--workers: int value too large: '99999999999999999999'",
        ),
    ] {
        let exit = exit(args);
        assert_eq!(
            exit.stderr,
            format!("usage: rgunicorn [OPTIONS] [APP_MODULE]\nrgunicorn: error: {words}\n"),
            "{args:?}"
        );
        assert_eq!((exit.status, exit.stdout.as_str()), (2, ""), "{args:?}");
    }
}

#[test]
fn a_negative_number_is_a_value_and_refused_by_the_setting() {
    for args in [&["--timeout", "-5"][..], &["-t-5"], &["--timeout=-5"]] {
        let invalid = from_line(args).expect_err("taken");
        assert_eq!(invalid.setting, "timeout");
        assert_eq!(
            invalid.to_string(),
            "Error: timeout: -5 is negative (allowed: 0 to 4294967295; as text also 0x, 0o, 0b)"
        );
    }
}

#[test]
fn a_value_may_begin_with_a_dash_when_it_cannot_be_an_option() {
    for args in [
        &["--access-logformat", "- %(h)s"][..],
        &["--access-logfo", "- %(h)s"],
        &["--access-logformat=- %(h)s"],
        &["app:app", "-w", "2", "--access-logformat", "- %(h)s", "--preload"],
    ] {
        assert_eq!(from_line(args).unwrap().access_log_format(), "- %(h)s", "{args:?}");
    }
    assert_eq!(from_line(&["-n", "-7"]).unwrap().proc_name(), Some("-7"));
    assert_eq!(from_line(&["-n", "- x y"]).unwrap().proc_name(), Some("- x y"));
    assert!(exit(&["--pid", "--access-logformat=%(h)s %(l)s"]).stderr.contains("-p/--pid: expected one"));
    assert!(exit(&["--pid", "-n a b"]).stderr.contains("-p/--pid: expected one"));
    assert!(exit(&["--preload", "- x"]).stderr.contains("unrecognized arguments"));
}

#[test]
fn version_and_help_end_with_status_0() {
    for flag in ["-v", "--version", "--vers"] {
        let expected = CommandExit {
            status: 0,
            stdout: "rgunicorn (version 1.2.3)\n".to_owned(),
            stderr: String::new(),
        };
        assert_eq!(exit(&[flag]), expected);
    }
    for args in [&["-h"][..], &["--help"], &["app:app", "-w", "3", "--help"]] {
        assert_eq!(exit(args), CommandExit { status: 0, stdout: help("rgunicorn"), stderr: String::new() });
    }
}

#[test]
fn help_shows_every_option_section_and_default_within_80_columns() {
    let page = help("rgunicorn");
    assert!(page.starts_with("usage: rgunicorn [OPTIONS] [APP_MODULE]\n"));
    for line in page.lines() {
        assert!(line.len() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    for row in ROWS {
        for flag in row.flags() {
            assert!([" ", "\n", ","].iter().any(|end| page.contains(&format!("{flag}{end}"))), "{flag}");
        }
    }
    for section in Section::ALL {
        assert!(page.contains(&format!("\n{}:\n", section.title())));
    }
    assert!(page.contains("  -w, --workers INT     Worker processes. Environment: WEB_CONCURRENCY. [1]\n"));
    assert!(page.contains("  (wsgi_app)"));
}

#[test]
fn nothing_given_is_nothing_set() {
    let line = line(&[]);
    assert_eq!((line.app(), line.config(), line.given().count()), (None, None, 0));
}

#[test]
fn cmd_args_are_split_like_a_posix_shell() {
    let cases: [(&str, &[&str]); 12] = [
        ("", &[]),
        ("  \t\n", &[]),
        ("-w 4 --preload", &["-w", "4", "--preload"]),
        ("--bind=127.0.0.1  -e 'A=b c'", &["--bind=127.0.0.1", "-e", "A=b c"]),
        (r#"a"b c"d"#, &["ab cd"]),
        (r#""x\"y\\z\n""#, &[r#"x"y\z\n"#]),
        (r"'x\y'", &[r"x\y"]),
        (r"a\ b \'c", &["a b", "'c"]),
        ("'' \"\"", &["", ""]),
        ("a#b # c", &["a#b", "#", "c"]),
        ("$HOME `x` *", &["$HOME", "`x`", "*"]),
        ("é 'ü'", &["é", "ü"]),
    ];
    for (text, words) in cases {
        assert_eq!(split_cmd_args(text).unwrap(), words, "{text:?}");
    }
    for (text, fault) in [
        ("'a", "No closing quotation"),
        ("\"a", "No closing quotation"),
        ("a\\", "No escaped character"),
        ("\"a\\", "No closing quotation"),
    ] {
        assert_eq!(split_cmd_args(text), Err(fault.to_owned()), "{text:?}");
    }
}
