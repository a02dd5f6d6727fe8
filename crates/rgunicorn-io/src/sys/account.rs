//! Users and groups: the numbers of names, and the change of a process's identity.

use super::check;
use super::place::Owner;
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
    /// Whether programs that the process runs get no more rights than it has itself (PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
}

impl Identity {
    /// Makes the calling process this one, for good. The groups go first: they need the privilege that the change of
    /// user gives up. Ids that it has already are not set, so that a server without privileges may name itself.
    ///
    /// A process that gives up root keeps none of root's supplementary groups: without `init_groups` it has only
    /// `group`. Gunicorn leaves them.
    ///
    /// # Errors
    /// EPERM without the privilege, and what setgid(2), setgroups(2), initgroups(3) and setuid(2) say otherwise;
    /// `PermissionDenied` if the way back to root is open afterwards.
    pub fn assume(&self) -> io::Result<()> {
        let group = self.group.map_or_else(unistd::getgid, Gid::from_raw);
        let user = self.user.map_or_else(unistd::getuid, Uid::from_raw);
        let leaves_root = unistd::geteuid().is_root() && !user.is_root();
        // An id without an account has no groups to take.
        let account = if self.init_groups && self.user.is_some() { User::from_uid(user)? } else { None };
        if let Some(account) = account {
            unistd::initgroups(&CString::new(account.name)?, group)?;
        } else if leaves_root {
            unistd::setgroups(&[group])?;
        }
        if group != unistd::getgid() || group != unistd::getegid() {
            unistd::setgid(group)?;
        }
        if user != unistd::getuid() || user != unistd::geteuid() {
            unistd::setuid(user)?;
        }
        if leaves_root && unistd::setuid(ROOT).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the process could become root again",
            ));
        }
        if self.no_new_privs {
            let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
            // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers only.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) })?;
        }
        Ok(())
    }
}

const ROOT: Uid = Uid::from_raw(0);

/// Runs `work` with the file rights of `owner` (setfsuid(2)): what it makes belongs to that account from its first
/// moment on, and it may do what that account may. `overriding`: as well as what root may (CAP_DAC_OVERRIDE).
///
/// Without privileges nothing changes. For the calling thread; nothing of the application may run in `work`.
///
/// # Errors
/// What capget(2) and capset(2) say; those of `work`.
pub(super) fn with_files_of<R>(
    owner: Owner,
    overriding: bool,
    work: impl FnOnce() -> io::Result<R>,
) -> io::Result<R> {
    let group = unistd::setfsgid(Gid::from_raw(owner.group));
    let user = unistd::setfsuid(Uid::from_raw(owner.user));
    let result = if overriding { raise_dac_override().and_then(|()| work()) } else { work() };
    // Back to user 0, the kernel gives the thread the capabilities for files again that it has taken (capabilities(7)).
    unistd::setfsuid(user);
    unistd::setfsgid(group);
    result
}

/// One half of a capability set, as capget(2) has it in version 3.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// `_LINUX_CAPABILITY_VERSION_3`, since Linux 2.6.26.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
const CAP_DAC_OVERRIDE: u32 = 1;

fn raise_dac_override() -> io::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut words = [CapabilityWords::default(); 2];
    let (header_at, words_at) = (&raw mut header, words.as_mut_ptr());
    // SAFETY: both are live, of the layouts of version 3, and the call writes no more than these.
    check_long(unsafe { libc::syscall(libc::SYS_capget, header_at, words_at) })?;
    words[0].effective |= words[0].permitted & (1 << CAP_DAC_OVERRIDE);
    // SAFETY: as above; the call only reads.
    check_long(unsafe { libc::syscall(libc::SYS_capset, header_at, words.as_ptr()) })
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
        Identity { user: Some(user), group: Some(group), ..Identity::default() }.assume().unwrap();
        assert_eq!(effective(), (user, group));
    }
}
