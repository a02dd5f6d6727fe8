//! All hooks of the configuration in one table: who calls them, when, with what, and the price of an
//! exception.
//!
//! A new hook is a row here and one in the settings; the test below compares the two. The code that calls it
//! names it by [`Hook`], and takes its name, its arguments and the consequence of an exception from the row.

use std::ops::RangeInclusive;

use HookArg::{Other, Server, Worker};
use HookFailure::{EndsProcess, EndsStart, EndsWorker, FailsStart, Ignored, Logged, RefusesRequest};
use HookProcess::{InMaster, InNewMaster, InWorker, Nowhere};

/// The process that calls a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookProcess {
    /// The master.
    InMaster,
    /// A child of the master, which is about to execute a new master.
    InNewMaster,
    /// A worker.
    InWorker,
    /// None: the setting is accepted for Gunicorn's sake.
    Nowhere,
}

/// An argument of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookArg {
    /// `rgunicorn._server.Server`, in a worker the copy that it has.
    Server,
    /// `rgunicorn.workers.Worker`, in the master its copy of it.
    Worker,
    /// An object that only the caller has.
    Other(&'static str),
}

/// The consequence of an exception in a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookFailure {
    /// The process ends: with the status of a `SystemExit`, else with 1 before the first fork and when the
    /// sockets are closed, with 255 in between.
    EndsProcess,
    /// The worker ends before it has loaded the application: with the status of a `SystemExit`, else with 3.
    EndsStart,
    /// The worker ends before it serves, with status 3.
    FailsStart,
    /// The worker ends at once: with the status of a `SystemExit`, else with 255.
    EndsWorker,
    /// The request is answered with 500, and logged.
    RefusesRequest,
    /// The traceback is logged, and everything goes on.
    Logged,
    /// There is no call that could fail.
    Ignored,
}

/// One row of the table.
#[derive(Debug)]
pub struct HookRow {
    /// The setting.
    pub name: &'static str,
    /// The moment of the call.
    pub moment: &'static str,
    /// The process that calls it.
    pub process: HookProcess,
    /// Its arguments, in order.
    pub args: &'static [HookArg],
    /// The number of last arguments that a function need not take.
    pub optional: usize,
    /// The consequence of an exception.
    pub failure: HookFailure,
    /// The function that calls it, as `name (file)`; empty if none does.
    pub caller: &'static str,
}

macro_rules! hooks {
    ($(
        $(#[doc = $moment:literal])+
        $hook:ident = $name:literal:
        $process:expr, [$($arg:expr),*] $(- $optional:literal)?, $failure:expr, $caller:literal;
    )+) => {
        /// A hook, by the name of its setting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Hook {
            $($(#[doc = $moment])+ $hook),+
        }

        impl Hook {
            /// All hooks, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$hook),+];

            /// Returns the hook's row of the table.
            pub fn row(self) -> &'static HookRow {
                &ROWS[self as usize]
            }
        }

        static ROWS: &[HookRow] = &[$(HookRow {
            name: $name,
            moment: concat!($($moment),+).trim_ascii(),
            process: $process,
            args: &[$($arg),*],
            optional: [$($optional,)? 0][0],
            failure: $failure,
            caller: $caller,
        }),+];
    };
}

hooks! {
    /// The pid file is written, nothing listens yet.
    OnStarting = "on_starting": InMaster, [Server], EndsProcess, "event (src/boot/hooks.rs)";
    /// The configuration was read again, no new worker exists.
    OnReload = "on_reload": InMaster, [Server], EndsProcess, "event (src/boot/hooks.rs)";
    /// All sockets listen, no worker exists.
    WhenReady = "when_ready": InMaster, [Server], EndsProcess, "event (src/boot/hooks.rs)";
    /// A worker is about to be forked.
    PreFork = "pre_fork": InMaster, [Server, Worker], EndsProcess, "event (src/boot/hooks.rs)";
    /// The worker exists, as the master's user and with the signals blocked.
    PostFork = "post_fork": InWorker, [Server, Worker], EndsStart, "run_hook (src/boot/worker.rs)";
    /// The application is loaded.
    PostWorkerInit = "post_worker_init": InWorker, [Worker], FailsStart, "run_hook (src/boot/worker.rs)";
    /// INT or QUIT has come, or `reload` has found a changed file; an exception of the latter call is only
    /// printed.
    WorkerInt = "worker_int": InWorker, [Worker], EndsWorker, "on_int (src/py/signals.rs)";
    /// ABRT has come: the master has missed the worker's heartbeat for `timeout`.
    WorkerAbort = "worker_abort": InWorker, [Worker], EndsWorker, "on_abort (src/py/signals.rs)";
    /// USR2 has come, and the child of the master is about to execute a new one.
    PreExec = "pre_exec": InNewMaster, [Server], EndsProcess, "event (src/boot/hooks.rs)";
    /// A request is complete, or its head if its body streams.
    PreRequest = "pre_request": InWorker, [Worker, Other("req")], RefusesRequest, "before (src/wsgi/hooks.rs)";
    /// The response has left the application, or the request was refused.
    PostRequest = "post_request": InWorker, [Worker, Other("req"), Other("environ"), Other("resp")] - 2, Logged,
        "after (src/wsgi/hooks.rs)";
    /// A worker has been reaped.
    ChildExit = "child_exit": InMaster, [Server, Worker], EndsProcess, "event (src/boot/hooks.rs)";
    /// The worker has served its last request and has written its last log line.
    WorkerExit = "worker_exit": InWorker, [Server, Worker], Logged, "event (src/boot/hooks.rs)";
    /// The wanted number of workers is another one, or the server starts: `old` is None then.
    NumWorkersChanged = "nworkers_changed": InMaster, [Server, Other("new"), Other("old")], EndsProcess,
        "event (src/boot/hooks.rs)";
    /// The last thing in the master.
    OnExit = "on_exit": InMaster, [Server], EndsProcess, "event (src/boot/hooks.rs)";
    /// Never: there is no TLS.
    SslContext = "ssl_context": Nowhere, [Other("config"), Other("default_ssl_context_factory")], Ignored, "";
    /// Never: there are no such processes.
    OnDirtyStarting = "on_dirty_starting": Nowhere, [Other("arbiter")], Ignored, "";
    /// Never, as above.
    DirtyPostFork = "dirty_post_fork": Nowhere, [Other("arbiter"), Other("worker")], Ignored, "";
    /// Never, as above.
    DirtyWorkerInit = "dirty_worker_init": Nowhere, [Other("worker")], Ignored, "";
    /// Never, as above.
    DirtyWorkerExit = "dirty_worker_exit": Nowhere, [Other("arbiter"), Other("worker")], Ignored, "";
}

impl Hook {
    /// Returns the hook of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|hook| hook.name() == name)
    }

    /// Returns the name of the setting.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the numbers of positional parameters that its function may have.
    pub fn arities(self) -> RangeInclusive<usize> {
        let HookRow { args, optional, .. } = self.row();
        args.len() - optional..=args.len()
    }
}

#[cfg(test)]
mod tests {
    use rgunicorn_settings::{ROWS as SETTINGS, ValueKind};

    use super::*;

    #[test]
    fn the_hooks_are_those_of_the_settings() {
        let settings = SETTINGS.iter().filter(|row| row.kind == ValueKind::Hook);
        let wanted: Vec<_> = settings
            .map(|row| {
                (row.name, row.choices.iter().map(|text| text.parse().unwrap()).collect::<Vec<usize>>())
            })
            .collect();
        let found: Vec<_> =
            Hook::ALL.iter().map(|hook| (hook.name(), hook.arities().collect::<Vec<_>>())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_hook_is_found_by_its_name_alone() {
        for hook in Hook::ALL {
            assert_eq!(Hook::by_name(hook.name()), Some(*hook));
        }
        assert_eq!(Hook::by_name("workers"), None);
    }

    #[test]
    fn every_hook_that_is_called_has_a_caller() {
        for row in ROWS {
            let HookRow { name, moment, process, failure, caller, .. } = row;
            assert!(moment.ends_with('.'), "{name}: {moment}");
            assert_eq!(*process == Nowhere, caller.is_empty(), "{name}");
            assert_eq!(*process == Nowhere, *failure == Ignored, "{name}");
            let Some((function, file)) = caller.strip_suffix(')').and_then(|text| text.split_once(" ("))
            else {
                assert!(caller.is_empty(), "{name}: {caller}");
                continue;
            };
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let source = std::fs::read_to_string(&path).unwrap();
            assert!(source.contains(&format!("fn {function}(")), "{name}: {caller}");
        }
    }
}
