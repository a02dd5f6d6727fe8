//! The setting that was meant by a name that is none: a common mistake by its name, or the nearest known name.

use super::rows::ROWS;

/// The most edits between a guess and the typed name: a third of its letters, and never more than this.
/// Beyond it, guesses mislead more often than they help.
const DISTANCE_MAX: usize = 3;

/// Names that many take for a setting's. Those of the long flags come in addition.
const MISTAKES: [(&str, &str); 9] = [
    ("access_log_file", "accesslog"),
    ("accesslog_format", "access_log_format"),
    ("error_log_file", "errorlog"),
    ("daemonize", "daemon"),
    ("num_workers", "workers"),
    ("worker_processes", "workers"),
    ("pid_file", "pidfile"),
    ("process_name", "proc_name"),
    ("log_dict_config", "logconfig_dict"),
];

/// Long flags whose names variables of a configuration file often have, for another purpose.
const FLAGS_NOT_MEANT: [&str; 4] = ["--name", "--env", "--pid", "--paster"];

/// Returns the setting that is meant by a name which is not its own: that of its flag, or a common mistake. The nearest
/// name may be another setting's: `preload` is not `reload`.
pub(super) fn mistaken(name: &str) -> Option<&'static str> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let common = MISTAKES.iter().find(|(mistake, _)| *mistake == folded).map(|(_, meant)| *meant);
    common.or_else(|| {
        let is_meant = |flag: &str| {
            !FLAGS_NOT_MEANT.contains(&flag)
                && flag.strip_prefix("--").is_some_and(|flag| flag.replace('-', "_") == folded)
        };
        ROWS.iter().find(|row| row.flags().any(is_meant)).map(|row| row.name)
    })
}

/// Returns the long flag of the setting of this name, which `typed` spells as a flag (`--preload-app`).
pub(super) fn flag_of(typed: &str) -> Option<&'static str> {
    let folded = typed.strip_prefix("--")?.to_ascii_lowercase().replace('-', "_");
    let common = MISTAKES.iter().find(|(mistake, _)| *mistake == folded).map(|(_, meant)| *meant);
    let row = ROWS.iter().find(|row| row.name == common.unwrap_or(&folded))?;
    row.flags().find(|flag| flag.starts_with("--"))
}

/// Finds the name among `known` with the fewest edits from `name`, if it is near enough to be the one that
/// was meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let limit = (folded.len() / 3).min(DISTANCE_MAX);
    known
        .map(|candidate| (edits(folded.as_bytes(), candidate.as_bytes()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, candidate)| candidate)
}

/// Counts the insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (restricted
/// Damerau-Levenshtein).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
