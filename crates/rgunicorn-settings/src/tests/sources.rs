//! Which source wins, and what becomes of names that set nothing?

use super::{from_env, from_file, from_line, line, text};
use crate::{
    CommandLine, ConfigSource, Environment, Id, IoDriver, Raw, WorkerKind, config_source, resolve,
    worker_class_check,
};

#[test]
fn each_source_beats_the_one_below() {
    let env = Environment::from_pairs([("WEB_CONCURRENCY", "2"), ("PORT", "80"), ("HOME", "/x")]);
    let file =
        [("workers".to_owned(), Raw::Int(3)), ("bind".to_owned(), Raw::List(vec![text("f:1"), text("g:2")]))];
    let env_args = line(&["-w", "4", "-b", "e:1", "ignored:app"]);
    let cli = line(&["-w", "5", "-b", "c:1", "-b", "d:2"]);
    let none = CommandLine::default();
    for (file, env_args, cli, workers, bind) in [
        (None, &none, &none, 2, &["0.0.0.0:80"][..]),
        (Some(&file[..]), &none, &none, 3, &["f:1", "g:2"]),
        (Some(&file[..]), &env_args, &none, 4, &["e:1"]),
        (Some(&file[..]), &env_args, &cli, 5, &["c:1", "d:2"]),
        (None, &none, &cli, 5, &["c:1", "d:2"]),
    ] {
        let settings = resolve(&env, file, env_args, cli).unwrap();
        assert_eq!(
            (settings.workers(), settings.bind()),
            (workers, &bind.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
        );
        assert_eq!(settings.app(), None);
    }
}

#[test]
fn a_bad_value_in_a_lower_source_is_not_excused_by_a_good_one_above() {
    let file = [("workers".to_owned(), text("x"))];
    let cli = line(&["-w", "5"]);
    let invalid =
        resolve(&Environment::default(), Some(&file), &CommandLine::default(), &cli).expect_err("excused");
    assert_eq!(invalid.setting, "workers");
}

#[test]
fn the_applications_name() {
    let file = [("wsgi_app".to_owned(), text("file:app"))];
    let none = CommandLine::default();
    let app =
        |cli| resolve(&Environment::default(), Some(&file), &none, cli).unwrap().app().map(str::to_owned);
    assert_eq!(app(&none).as_deref(), Some("file:app"));
    assert_eq!(app(&line(&["cli:app"])).as_deref(), Some("cli:app"));
}

#[test]
fn variables() {
    for unset in
        [&[][..], &[("WEB_CONCURRENCY", "")], &[("WEB_CONCURRENCY", " ")], &[("RGUNICORN_IO_DRIVER", "")]]
    {
        let settings = from_env(unset).unwrap();
        assert_eq!((settings.workers(), settings.io_driver()), (1, IoDriver::Auto));
    }
    assert_eq!(from_env(&[("WEB_CONCURRENCY", " 7 ")]).unwrap().workers(), 7);
    assert_eq!(from_env(&[("RGUNICORN_IO_DRIVER", "uring")]).unwrap().io_driver(), IoDriver::Uring);
    assert_eq!(from_env(&[("FORWARDED_ALLOW_IPS", "")]).unwrap().forwarded_allow_ips(), &[] as &[String]);
    assert_eq!(from_env(&[("FORWARDED_ALLOW_IPS", "*")]).unwrap().forwarded_allow_ips(), ["*"]);
    for (name, value, message) in [
        ("WEB_CONCURRENCY", "auto", "Error: workers (from WEB_CONCURRENCY): invalid int value: 'auto'"),
        ("WEB_CONCURRENCY", "0x4", "Error: workers (from WEB_CONCURRENCY): invalid int value: '0x4'"),
        (
            "RGUNICORN_IO_DRIVER",
            "kqueue",
            "Error: io_driver (from RGUNICORN_IO_DRIVER): 'kqueue' is unknown (allowed: auto, uring, epoll)",
        ),
    ] {
        assert_eq!(from_env(&[(name, value)]).expect_err("taken").to_string(), message);
    }
    assert_eq!(Environment::from_pairs([("GUNICORN_CMD_ARGS", "-w 4")]).cmd_args(), Some("-w 4"));
}

#[test]
fn the_configuration_file() {
    let none = || CommandLine::default();
    let file = |path: &str, named| ConfigSource::File { path: path.to_owned(), named };
    assert_eq!(config_source(&none(), &none(), false), ConfigSource::None);
    assert_eq!(config_source(&none(), &none(), true), file("./gunicorn.conf.py", false));
    assert_eq!(config_source(&none(), &line(&["-c", "e.py"]), true), file("e.py", true));
    assert_eq!(config_source(&line(&["-c", "c.py"]), &line(&["-c", "e.py"]), true), file("c.py", true));
    assert_eq!(config_source(&line(&["-c", "file:c.py"]), &none(), true), file("c.py", true));
    assert_eq!(
        config_source(&line(&["-c", "python:a.b"]), &none(), true),
        ConfigSource::Module("a.b".to_owned())
    );
    // A name that happens to be the default one must exist all the same.
    assert_eq!(
        config_source(&line(&["-c", "./gunicorn.conf.py"]), &none(), false),
        file("./gunicorn.conf.py", true)
    );
}

#[test]
fn names_that_set_nothing() {
    let code = |type_name: &str| Raw::Other { type_name: type_name.to_owned(), repr: "<…>".to_owned() };
    for (name, raw, expected) in [
        (
            "worker",
            Raw::Int(3),
            Some("Unknown setting worker in the configuration file: did you mean workers?"),
        ),
        (
            "Workers",
            Raw::Int(3),
            Some("Unknown setting Workers in the configuration file: did you mean workers?"),
        ),
        (
            "wrokers",
            Raw::Int(3),
            Some("Unknown setting wrokers in the configuration file: did you mean workers?"),
        ),
        (
            "log_level",
            text("x"),
            Some("Unknown setting log_level in the configuration file: did you mean loglevel?"),
        ),
        (
            "post_frok",
            code("function"),
            Some("Unknown setting post_frok in the configuration file: did you mean post_fork?"),
        ),
        ("post_worker_init", code("function"), None),
        ("post_fork", code("function"), None),
        ("dirty_timeout", Raw::Int(1), Some("Setting dirty_timeout has no effect in this release")),
        ("capture_output", Raw::Bool(false), None),
        ("keyfile", Raw::None, None),
        ("dirty_workers", Raw::Int(0), None),
        ("dirty_apps", Raw::List(Vec::new()), None),
        ("logconfig_dict", Raw::Dict(Vec::new()), None),
        ("my_company_thing", Raw::Int(3), None),
        ("cores", Raw::Int(4), None),
        ("name", text("x"), None),
        ("os", code("module"), None),
        ("worker", code("module"), None),
        ("Worker", code("type"), None),
        ("count_cores", code("function"), None),
        ("_workers", Raw::Int(3), None),
        ("__name__", text("x"), None),
        ("workers", Raw::Int(3), None),
    ] {
        let settings = from_file(name, raw).unwrap();
        let reports: Vec<String> = settings.unknown_names().iter().map(ToString::to_string).collect();
        assert_eq!(reports, expected.into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn worker_classes() {
    for (name, kind) in [
        ("sync", WorkerKind::Sync),
        ("egg:gunicorn#sync", WorkerKind::Sync),
        ("gunicorn.workers.sync.SyncWorker", WorkerKind::Sync),
        ("gthread", WorkerKind::Gthread),
        ("gunicorn.workers.gthread.ThreadWorker", WorkerKind::Gthread),
        ("uring", WorkerKind::Uring),
        ("gevent", WorkerKind::Gevent),
        ("gunicorn.workers.ggevent.GeventWorker", WorkerKind::Gevent),
        ("<class 'rgunicorn.workers.ThreadWorker'>", WorkerKind::Gthread),
        ("gunicorn.workers.ggevent.GeventPyWSGIWorker", WorkerKind::Foreign),
        ("gevent_pywsgi", WorkerKind::Foreign),
        ("egg:gunicorn#asgi", WorkerKind::Foreign),
        ("uvicorn.workers.UvicornWorker", WorkerKind::Foreign),
        ("egg:shop#worker", WorkerKind::Foreign),
        ("<class 'x.Y'>", WorkerKind::Foreign),
    ] {
        assert_eq!(worker_class_check(name), Ok(kind));
    }
    for (name, words) in [
        ("eventlet", "use gevent"),
        ("<class 'rgunicorn.workers.Worker'>", "unknown"),
        ("foo", "unknown"),
        ("", "unknown"),
    ] {
        let message = worker_class_check(name).expect_err(name);
        assert!(
            message.contains(words)
                && message.contains(&text(name).repr())
                && message.contains("sync, gthread, gevent, uring"),
            "{message}"
        );
    }
    let threads = |count| from_file("threads", Raw::Int(count)).unwrap().worker_kind();
    assert_eq!(threads(1), Ok(WorkerKind::Sync));
    assert_eq!(threads(2), Ok(WorkerKind::Gthread));
}

#[test]
fn a_refusal_from_above_knows_where_the_value_came_from() {
    let refused = |settings: crate::Settings| settings.refuse(Id::chdir, "no").to_string();
    assert_eq!(
        refused(from_file("chdir", text("x")).unwrap()),
        "Invalid value for chdir: x\nError: chdir: no"
    );
    assert_eq!(refused(from_line(&["--chdir", "x"]).unwrap()), "Error: chdir: no");
    assert_eq!(refused(from_env(&[]).unwrap()), "Error: chdir: no");
    let bind = from_env(&[("PORT", "x")]).unwrap().refuse(Id::bind, "no").to_string();
    assert_eq!(bind, "Error: bind (from PORT): no");
}

#[test]
fn common_mistakes_are_known_by_name() {
    for (name, meant) in [
        ("preload", Some("preload_app")),
        ("access_logfile", Some("accesslog")),
        ("log_file", Some("errorlog")),
        ("keep_alive", Some("keepalive")),
        ("num_workers", Some("workers")),
        ("name", None),
        ("env", None),
    ] {
        let settings = from_file(name, text("x")).unwrap();
        let nearest = settings.unknown_names().first().and_then(|unknown| unknown.nearest);
        assert_eq!(nearest, meant, "{name}");
    }
}
