//! What the command touches: no network where it may not, and no file outside its home and Hugging Face's cache.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::SystemTime,
};

use hub_fixtures::{Form, Registry};
use tempfile::TempDir;

use crate::{Hub, stderr};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/hub-models/guide/hub-guide.gguf");

/// What a machine looks like to the command: every place that programs write to is a folder of the test's own.
struct Machine {
    hub: Hub,
    around: TempDir,
    registry: Registry,
}

impl Machine {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        for folder in
            ["home/.cache", "home/.ollama/models", "data", "config", "cache", "state", "run", "tmp", "here"]
        {
            fs::create_dir_all(around.path().join(folder)).unwrap();
        }
        fs::write(around.path().join("home/notes.txt"), "mine").unwrap();
        fs::write(around.path().join("here/hub-guide.gguf"), "not a model").unwrap();
        let registry = Registry::start();
        let guide = fs::read(GUIDE).unwrap();
        registry.repo("org/Tiny-GGUF", COMMIT, &[("tiny-Q8_0.gguf", guide.clone())], Form::Full);
        registry.ollama("library/tiny", "1b", &[("model", guide), ("license", b"MIT".to_vec())]);
        Self { hub: Hub::new(), around, registry }
    }

    /// Makes the command see this machine and no other.
    fn put(&self, command: &mut Command) {
        let around = self.around.path();
        for (name, folder) in [
            ("HOME", "home"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(name, around.join(folder));
        }
        command.env("HF_HOME", self.hf_home()).env("HF_ENDPOINT", self.registry.url());
        command.env("HUB_OLLAMA_REGISTRY", self.registry.url()).current_dir(around.join("here"));
    }

    /// Beside the hub's own home, for it is the other place that may be written to.
    fn hf_home(&self) -> PathBuf {
        self.hub.home().join("hf")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.hub.command(args);
        self.put(&mut command);
        command.output().unwrap()
    }

    #[track_caller]
    fn works(&self, args: &[&str]) {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    }

    /// Runs under strace, and returns the calls about files and the network; `None` without one.
    fn traced(&self, args: &[&str], is_offline: bool) -> Option<(Output, String)> {
        let Some(strace) = std::env::var_os("HUB_TEST_STRACE") else {
            println!("skipped: HUB_TEST_STRACE names no strace; `cargo xtask test` finds it");
            return None;
        };
        let log = self.hub.home().join("calls");
        let mut command = self.hub.command(&[]);
        let program = command.get_program().to_owned();
        let variables: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new(strace);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.put(&mut command);
        if is_offline {
            command.env("HUB_OFFLINE", "1");
        }
        command.args([
            "-f",
            "-qq",
            "-y",
            "-s",
            "4096",
            "-e",
            "trace=%file,%network",
            "-e",
            "signal=none",
            "-o",
        ]);
        command.arg(&log).arg(program).args(args);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        Some((output, fs::read_to_string(log).unwrap()))
    }
}

/// Everything below a folder: what kind it is, when it was changed, and what is in it. That a file came and went shows in
/// the time of its folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(path) = folders.pop() {
        for entry in path.read_dir().unwrap().flatten() {
            let path = entry.path();
            let metadata = entry.metadata().unwrap();
            let bytes = (!metadata.is_dir()).then(|| fs::read(&path).unwrap());
            found.insert(path.clone(), (metadata.modified().unwrap(), bytes));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// A whole first hour.
const HOUR: &[&[&str]] = &[
    &["pull", "hf:org/Tiny-GGUF"],
    &["pull", "ollama:tiny:1b"],
    &["list"],
    &["show", "tiny-Q8_0"],
    &["run", "hub-guide", "hi"],
    &["run", "tiny:1b", "--max-tokens", "4", "hi"],
    &["config", "show"],
    &["rm", "tiny-Q8_0"],
    &["rm", "tiny:1b"],
];

#[test]
fn nothing_outside_the_home_and_the_cache_is_changed() {
    let machine = Machine::new();
    let before = tree(machine.around.path());
    for args in HOUR {
        machine.works(args);
    }
    machine.run(&["doctor"]);
    assert_eq!(tree(machine.around.path()), before);
}

#[test]
fn no_call_writes_outside_the_home_and_the_cache() {
    let machine = Machine::new();
    let mut inside = 0;
    for args in HOUR {
        let Some((output, calls)) = machine.traced(args, false) else { return };
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        let home = machine.hub.home().to_str().unwrap();
        let outside: Vec<&str> = calls.lines().filter(|call| writes_outside(call, home)).collect();
        assert_eq!(outside, [""; 0], "{args:?}");
        inside += calls.lines().filter(|call| writes_outside(call, "/nowhere")).count();
    }
    assert!(inside > 0, "what would show a call shows those that are allowed");
}

/// Tells whether a call changes a file that is not below `home`.
fn writes_outside(call: &str, home: &str) -> bool {
    // `1234  openat(AT_FDCWD</here>, "/there", O_RDWR|O_CREAT, 0644) = 3</there>`
    let Some((name, arguments)) = call.split_once('(') else { return false };
    let name = name.rsplit(' ').next().unwrap_or(name);
    let changes = match name {
        "open" | "openat" | "openat2" => {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag))
        }
        "creat" | "truncate" | "chmod" | "chown" | "mknod" | "mknodat" | "fchmodat" | "fchownat"
        | "utimensat" | "rmdir" => true,
        name => ["mkdir", "rename", "unlink", "link", "symlink"].iter().any(|start| name.starts_with(start)),
    };
    // Where a link leads to is a text that is written; all other paths are places.
    let texts = usize::from(name.starts_with("symlink"));
    let paths = arguments.split('"').skip(1).step_by(2).skip(texts).filter(|path| !path.is_empty());
    let is_inside = |path: &str| {
        // What is relative starts in a folder that is open, and the command changes into none.
        path.starts_with(home)
            || (!path.starts_with('/') && arguments.starts_with(&format!("AT_FDCWD<{home}")))
    };
    changes && !paths.into_iter().all(|path| is_inside(path) || path == "/dev/null" || path == "/dev/tty")
}

#[test]
fn offline_no_connection_is_opened_and_the_missing_file_is_named() {
    let machine = Machine::new();
    let home = machine.hub.home().to_string_lossy().into_owned();
    let url = format!("{}/tiny.gguf", machine.registry.url());
    let sha256 = "0".repeat(64);
    let snapshots = format!("{home}/hf/hub/models--org--Tiny-GGUF/snapshots/main");
    for (args, missing) in [
        (&["pull", "hf:org/Tiny-GGUF"][..], snapshots.clone()),
        (&["pull", "hf:org/Tiny-GGUF/tiny-Q8_0.gguf"], format!("{snapshots}/tiny-Q8_0.gguf")),
        (&["pull", "ollama:tiny:1b"], format!("{home}/models/ollama/manifests/library/tiny/1b")),
        (&["pull", &url, "--sha256", &sha256], format!("{home}/models/addresses/{sha256}/tiny.gguf")),
    ] {
        let mut command = machine.hub.command(args);
        machine.put(&mut command);
        let output = command.env("HUB_OFFLINE", "1").output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("HUB_OFFLINE is set") && said.contains(&missing), "{args:?}: {said}");
        if let Some((_, calls)) = machine.traced(args, true) {
            let opened: Vec<&str> = calls.lines().filter(|call| reaches_out(call)).collect();
            assert_eq!(opened, [""; 0], "{args:?}");
        }
    }
    assert_eq!(machine.registry.connections(), 0);
    // What would show a connection shows one that is allowed.
    if let Some((output, calls)) = machine.traced(&["pull", "hf:org/Tiny-GGUF"], false) {
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(calls.lines().any(reaches_out) && machine.registry.connections() > 0);
    }
}

/// Tells whether a call opens a socket to anything but this machine's own programs.
fn reaches_out(call: &str) -> bool {
    let is_about_sockets =
        ["socket(", "connect(", "sendto(", "sendmsg("].iter().any(|name| call.contains(name));
    is_about_sockets
        && (call.contains("AF_INET") || call.contains("AF_NETLINK") || call.contains("AF_PACKET"))
}
