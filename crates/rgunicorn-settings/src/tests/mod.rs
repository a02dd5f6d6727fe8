//! Tests of the settings, by question.

mod addresses;
mod command_line;
mod sources;
mod table;
mod values;

use super::{CommandLine, Environment, Invalid, Raw, Settings, parse_command_line, resolve};

/// A parsed command line; panics with the usage error's text.
fn line(args: &[&str]) -> CommandLine {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    parse_command_line("rgunicorn", "1.2.3", &args).unwrap_or_else(|exit| panic!("{}", exit.stderr))
}

/// The settings of a file that sets one name.
fn from_file(name: &str, raw: Raw) -> Result<Settings, Invalid> {
    resolve(
        &Environment::default(),
        Some(&[(name.to_owned(), raw)]),
        &CommandLine::default(),
        &CommandLine::default(),
    )
}

fn from_line(args: &[&str]) -> Result<Settings, Invalid> {
    resolve(&Environment::default(), None, &CommandLine::default(), &line(args))
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
    let env = Environment::from_pairs(pairs.iter().copied());
    resolve(&env, None, &CommandLine::default(), &CommandLine::default())
}

fn text(text: &str) -> Raw {
    Raw::Str(text.to_owned())
}

fn shown(settings: &Settings, name: &str) -> String {
    settings
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
        .unwrap_or_else(|| panic!("no {name}"))
}
