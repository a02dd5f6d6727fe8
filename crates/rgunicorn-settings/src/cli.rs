//! The command line, made from the table: clap does the parsing, the words of errors are those of Python's argparse,
//! because scripts and people know them from Gunicorn.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::check::from_outside;
use super::help::{self, help};
use super::raw::Raw;
use super::rows::{Id, ROWS};
use super::suggest::{flag_of, nearest};
use super::table::{Row, ValueKind};

/// The exit status of a usage error, as argparse has it.
const USAGE_STATUS: i32 = 2;

/// The end of the program before it began: help, version, or a usage error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandExit {
    /// The exit status.
    pub status: i32,
    /// The text for the standard output.
    pub stdout: String,
    /// The text for the standard error.
    pub stderr: String,
}

/// The options of a command line, not yet checked beyond what the parser itself refuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    app: Option<String>,
    given: Vec<(Id, Raw)>,
}

impl CommandLine {
    /// Returns the application argument, `MODULE[:EXPR]`.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// Returns the settings that were given.
    pub(super) fn given(&self) -> impl Iterator<Item = (Id, &Raw)> {
        self.given.iter().map(|(id, raw)| (*id, raw))
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        self.given.iter().find_map(|(given, raw)| match raw {
            Raw::Str(text) if *given == id => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Parses `args`, which exclude the program's own name; also those that `GUNICORN_CMD_ARGS` was split into.
///
/// # Errors
/// `--help` and `--version` (status 0), usage errors (status 2).
pub fn parse_command_line(prog: &str, version: &str, args: &[String]) -> Result<CommandLine, CommandExit> {
    let words = std::iter::once(prog.to_owned()).chain(joined(args));
    let matches = command().try_get_matches_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => CommandExit { stdout: help(prog), ..CommandExit::default() },
        ErrorKind::DisplayVersion => {
            CommandExit { stdout: format!("{prog} (version {version})\n"), ..CommandExit::default() }
        }
        _ => usage_error(prog, &describe(&error)),
    })?;
    let given = Id::ALL.iter().filter_map(|id| Some((*id, value_of(id.row(), &matches)?))).collect();
    Ok(CommandLine { app: app_of(&matches).map_err(|text| usage_error(prog, &text))?, given })
}

/// Joins a value that begins with a dash and contains a blank (`--access-logformat '- %(h)s'`) to its option:
/// argparse takes it for a value, clap would take it for an option.
fn joined(args: &[String]) -> Vec<String> {
    let mut words: Vec<String> = Vec::with_capacity(args.len());
    for word in args {
        match words.last_mut() {
            Some(option)
                if word.starts_with('-')
                    && word.contains(' ')
                    && !is_option(word)
                    && awaits_value(option) =>
            {
                option.push('=');
                option.push_str(word);
            }
            _ => words.push(word.clone()),
        }
    }
    words
}

/// Returns whether `word` begins like an option: a long one up to its `=`, or a short one's letter.
fn is_option(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    let short = |flag: &str| !flag.starts_with("--") && word.starts_with(flag);
    ROWS.iter().flat_map(Row::flags).any(|flag| short(flag) || (name.len() > 2 && flag.starts_with(name)))
}

/// Returns whether `word` is an option that takes a value and has none yet.
fn awaits_value(word: &str) -> bool {
    let valued = ROWS.iter().filter(|row| !row.metavar().is_empty()).flat_map(Row::flags);
    valued.into_iter().any(|flag| flag == word || (word.len() > 2 && flag.starts_with(word)))
}

fn command() -> Command {
    let settings = ROWS.iter().filter(|row| !row.usage.is_empty()).map(argument);
    Command::new("rgunicorn")
        .infer_long_args(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .version("taken from the caller")
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::Help))
        .arg(Arg::new("version").short('v').long("version").action(ArgAction::Version))
        .args(settings)
        .arg(Arg::new(APP).num_args(0..).action(ArgAction::Append))
}

/// The value of a bare `--proxy-protocol`.
const BARE_PROXY_FLAG: &str = "auto";

/// The name of the positional argument. No setting is called so.
const APP: &str = "APP_MODULE";

fn argument(row: &'static Row) -> Arg {
    let mut arg = Arg::new(row.name).action(match row.kind {
        ValueKind::Flag | ValueKind::Sendfile => ArgAction::SetTrue,
        ValueKind::List => ArgAction::Append,
        _ => ArgAction::Set,
    });
    let mut named = false;
    for flag in row.flags() {
        arg = match (flag.strip_prefix("--"), flag.chars().nth(1)) {
            (Some(long), _) if named => arg.alias(long),
            (Some(long), _) => {
                named = true;
                arg.long(long)
            }
            (None, Some(short)) => arg.short(short),
            (None, None) => arg,
        };
    }
    if matches!(row.kind, ValueKind::Flag | ValueKind::Sendfile) {
        return arg;
    }
    if row.kind == ValueKind::Proxy {
        arg = arg.num_args(0..=1).default_missing_value(BARE_PROXY_FLAG);
    }
    // `--timeout -5` must reach the check that refuses it by name.
    arg.allow_negative_numbers(true).value_parser(move |text: &str| from_outside(row, text))
}

/// Returns the value given for `row`.
fn value_of(row: &Row, matches: &ArgMatches) -> Option<Raw> {
    match row.kind {
        _ if row.usage.is_empty() => None,
        ValueKind::Flag => matches.get_flag(row.name).then_some(Raw::Bool(true)),
        ValueKind::Sendfile => matches.get_flag(row.name).then_some(Raw::Bool(false)),
        ValueKind::List => matches.get_many::<Raw>(row.name).map(|items| Raw::List(items.cloned().collect())),
        _ => matches.get_one::<Raw>(row.name).cloned(),
    }
}

/// Returns the first positional argument. Further ones right behind it are ignored, as Gunicorn does; apart
/// from it they are refused.
fn app_of(matches: &ArgMatches) -> Result<Option<String>, String> {
    let indices: Vec<usize> = matches.indices_of(APP).into_iter().flatten().collect();
    let texts: Vec<&String> = matches.get_many(APP).into_iter().flatten().collect();
    let gap = indices.windows(2).position(|pair| pair[1] != pair[0] + 1);
    if let Some(stray) = gap.and_then(|gap| texts.get(gap + 1)) {
        return Err(format!("unrecognized arguments: {stray}"));
    }
    Ok(texts.first().map(|text| (*text).clone()))
}

fn usage_error(prog: &str, text: &str) -> CommandExit {
    CommandExit {
        status: USAGE_STATUS,
        stdout: String::new(),
        stderr: format!("{}\n{prog}: error: {text}\n", help::usage(prog)),
    }
}

/// Renders clap's error in argparse's words.
fn describe(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        Some(ContextValue::Strings(texts)) => texts.first().map_or("", String::as_str),
        _ => "",
    };
    let name = argument_name(context(ContextKind::InvalidArg));
    match error.kind() {
        ErrorKind::UnknownArgument => unknown_option(context(ContextKind::InvalidArg)),
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues
            if context(ContextKind::InvalidValue).is_empty() =>
        {
            format!("argument {name}: expected one argument")
        }
        ErrorKind::TooManyValues => {
            format!("argument {name}: ignored explicit argument '{}'", context(ContextKind::InvalidValue))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            format!("argument {name}: {}", reason.unwrap_or_default())
        }
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        kind => format!("argument {name}: {kind}"),
    }
}

/// Renders `-w/--workers` for any of clap's spellings (`--workers <workers>`).
fn argument_name(spelling: &str) -> String {
    let flag = spelling.split(' ').next().unwrap_or_default();
    let row = ROWS.iter().find(|row| row.flags().any(|known| known == flag));
    row.map_or_else(|| flag.to_owned(), |row| help::flags(row, "/"))
}

fn unknown_option(spelling: &str) -> String {
    let typed = spelling.split('=').next().unwrap_or_default();
    let all = || ROWS.iter().flat_map(Row::flags).chain(["--help", "--version"]);
    let matching: Vec<&str> = all().filter(|flag| typed.len() > 2 && flag.starts_with(typed)).collect();
    if matching.len() > 1 {
        return format!("ambiguous option: {typed} could match {}", matching.join(", "));
    }
    let folded: Vec<String> = all().map(|flag| flag.replace('-', "_")).collect();
    let guess = nearest(typed, folded.iter().map(String::as_str));
    let guess = guess.and_then(|guess| all().find(|flag| flag.replace('-', "_") == guess));
    // The name of a setting is surer than a near flag.
    let guess = flag_of(typed).or(guess);
    let hint = guess.map(|flag| format!(" (did you mean {flag}?)")).unwrap_or_default();
    format!("unrecognized arguments: {spelling}{hint}")
}
