use std::{
    fs::{self, File, TryLockError},
    io,
    path::{self, Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{Error, Result, os::create_private_dir};

/// The directory that holds everything the hub owns: `hub.db`, `models/`, `files/`, `logs/`, and
/// `packed/` where that is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

/// The right to serve a home directory, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct HomeLock {
    home: Home,
    _file: File,
}

/// Directories inside a home.
const PARTS: [&str; 3] = ["models", "files", "logs"];

/// Returns where a path leads from any directory: what is noted of files must not depend on who asks from where.
fn absolute(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Home {
    /// Creates the directory and its parts where they are missing. On Unix a new one is its owner's alone.
    ///
    /// # Errors
    /// [`Error::Home`].
    pub fn create(path: &Path) -> Result<Self> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Home { path, source }
        };
        let path = &absolute(path);
        create_private_dir(path).map_err(failed(path))?;
        for part in PARTS {
            let part = path.join(part);
            create_private_dir(&part).map_err(failed(&part))?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Names a directory without touching it.
    pub fn at(path: &Path) -> Self {
        Self(absolute(path))
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the right to serve this home. Blocks for up to a fifth of a second.
    ///
    /// # Errors
    /// [`Error::HomeInUse`] with the address of the server that has it.
    pub fn lock(&self) -> Result<HomeLock> {
        let path = self.lock_path();
        let failed = |source| Error::Home { path: path.clone(), source };
        // Windows locks only what may be read, or written anywhere.
        let file = File::options().create(true).read(true).append(true).open(&path).map_err(failed)?;
        // Somebody who only looks holds the lock for a moment.
        for pause in [20, 50, 130] {
            match file.try_lock() {
                Ok(()) => {
                    // What a killed server left behind.
                    remove(&self.address_path()).map_err(failed)?;
                    return Ok(HomeLock { home: self.clone(), _file: file });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(pause)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let address = self.read_address().unwrap_or_else(|| "an address not known yet".to_owned());
        Err(Error::HomeInUse { home: self.0.clone(), address })
    }

    /// Returns the address of the server that serves this home: `http://127.0.0.1:8484`. `None` if none does.
    pub fn server_address(&self) -> Option<String> {
        let file = File::open(self.lock_path()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => self.read_address(),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn read_address(&self) -> Option<String> {
        let text = fs::read_to_string(self.address_path()).ok()?;
        Some(text.trim().to_owned()).filter(|address| !address.is_empty())
    }

    fn lock_path(&self) -> PathBuf {
        self.0.join("serve.lock")
    }

    /// Beside the lock, not in it: on Windows nobody else can read a locked file.
    fn address_path(&self) -> PathBuf {
        self.0.join("serve.address")
    }
}

impl HomeLock {
    /// Tells others where this server listens.
    ///
    /// # Errors
    /// [`Error::Home`].
    pub fn announce(&self, address: &str) -> Result<()> {
        let path = self.home.address_path();
        fs::write(&path, format!("{address}\n")).map_err(|source| Error::Home { path, source })
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Nobody believes the address without the lock, so a file that stays is only untidy.
        let _ = remove(&self.home.address_path());
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_the_same_from_everywhere() {
        let home = Home::at(Path::new("home"));
        assert!(home.path().is_absolute() && home.path().ends_with("home"));
    }

    #[test]
    fn a_second_server_is_told_where_the_first_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(dir.path()).unwrap();
        assert_eq!(home.server_address(), None);

        let lock = home.lock().unwrap();
        lock.announce("http://127.0.0.1:8484").unwrap();
        assert_eq!(home.server_address().as_deref(), Some("http://127.0.0.1:8484"));
        let refused = home.lock().unwrap_err();
        assert!(matches!(&refused, Error::HomeInUse { address, .. } if address == "http://127.0.0.1:8484"));

        drop(lock);
        assert_eq!(home.server_address(), None);
        home.lock().unwrap();
    }

    #[test]
    fn what_a_killed_server_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(dir.path()).unwrap();
        fs::write(home.lock_path(), "").unwrap();
        fs::write(home.address_path(), "http://127.0.0.1:1\n").unwrap();
        assert_eq!(home.server_address(), None);
        home.lock().unwrap();
        assert_eq!(home.read_address(), None);
    }
}
