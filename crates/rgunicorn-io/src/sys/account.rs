//! Users and groups: the numbers of names, and the change of a process's identity.

use nix::unistd::{self, Gid, Group, Uid, User};
use std::ffi::CString;
use std::io;

/// Returns the number of the user called `text`: digits are a number, whether an account has it or not. `None`: no
/// such user.
///
/// # Errors
/// What the system's account database says.
pub fn user_id(text: &str) -> io::Result<Option<u32>> {
    match number(text) {
        Some(id) => Ok(Some(id)),
        None => Ok(User::from_name(text)?.map(|user| user.uid.as_raw())),
    }
}

/// Returns the number of the group called `text`, as [`user_id`] does.
///
/// # Errors
/// What the system's account database says.
pub fn group_id(text: &str) -> io::Result<Option<u32>> {
    match number(text) {
        Some(id) => Ok(Some(id)),
        None => Ok(Group::from_name(text)?.map(|group| group.gid.as_raw())),
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns the user and group as which this process acts.
pub fn effective() -> (u32, u32) {
    (unistd::geteuid().as_raw(), unistd::getegid().as_raw())
}

/// The identity that a process shall take. `None` keeps what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id: real, effective and saved.
    pub user: Option<u32>,
    /// Group id: real, effective and saved.
    pub group: Option<u32>,
    /// Whether to take the supplementary groups of `user` in place of those inherited.
    pub init_groups: bool,
}

impl Identity {
    /// Makes the calling process this one, for good. The groups go first: they need the privilege that the change of
    /// user gives up. Ids that it has already are not set, so that a server without privileges may name itself.
    ///
    /// # Errors
    /// EPERM without the privilege, and what setgid(2), initgroups(3) and setuid(2) say otherwise.
    pub fn assume(&self) -> io::Result<()> {
        let group = self.group.map_or_else(unistd::getgid, Gid::from_raw);
        if self.init_groups
            && let Some(user) = self.user
            // An id without an account has no groups to take.
            && let Some(account) = User::from_uid(Uid::from_raw(user))?
        {
            unistd::initgroups(&CString::new(account.name)?, group)?;
        }
        if group != unistd::getgid() || group != unistd::getegid() {
            unistd::setgid(group)?;
        }
        let user = self.user.map_or_else(unistd::getuid, Uid::from_raw);
        if user != unistd::getuid() || user != unistd::geteuid() {
            unistd::setuid(user)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(user_id("root").unwrap(), Some(0));
        assert_eq!(group_id("root").unwrap(), Some(0));
        for number in ["0", "12345", "4294967295"] {
            assert_eq!(user_id(number).unwrap(), number.parse().ok());
            assert_eq!(group_id(number).unwrap(), number.parse().ok());
        }
        for unknown in ["no-such-name-here", "4294967296", "-1"] {
            assert_eq!(user_id(unknown).unwrap(), None, "{unknown}");
            assert_eq!(group_id(unknown).unwrap(), None, "{unknown}");
        }
    }

    #[test]
    fn a_process_may_become_what_it_is() {
        let (user, group) = effective();
        Identity::default().assume().unwrap();
        Identity { user: Some(user), group: Some(group), init_groups: false }.assume().unwrap();
        assert_eq!(effective(), (user, group));
    }
}
