//! `forebay status` and the log of secrets, as an operator sees them of the binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use x509_cert::der::DateTime;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(20);

/// A node's directory, and its process while it runs.
struct Site {
    dir: tempfile::TempDir,
    node: Option<Child>,
}

impl Site {
    /// One with a mapping whose cluster nobody serves, with those members more.
    fn new(members: &str) -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let path = dir.path();
        std::fs::create_dir(path.join("mappings.d")).expect("the directory is new");
        let text = "mappings_dir = \"mappings.d\"\nstate_dir = \"state\"\nlisten = \"127.0.0.1:0\"\nshards = 1\n\
                    endpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n";
        std::fs::write(path.join("forebay.toml"), text).expect("the directory is writable");
        let mapping = format!(
            "FunctionName = \"f\"\nTopics = [\"orders\"]\n{members}\n\
             [SelfManagedEventSource.Endpoints]\nKAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
        );
        std::fs::write(path.join("mappings.d/orders.toml"), mapping).expect("it is writable");
        Self { dir, node: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command about this node; without systemd's word on where that is.
    fn forebay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(arguments).env_remove("RUNTIME_DIRECTORY");
        command.arg("--config").arg(self.path("forebay.toml"));
        command
    }

    /// Starts it; its log goes into a file.
    fn start(&mut self) {
        let mut options = File::options();
        let log = options.create(true).append(true).open(self.path("log"));
        let log = log.expect("it is writable");
        let node = self.forebay(&["run"]).stderr(log).spawn();
        self.node = Some(node.expect("it was built"));
        eventually("the node tells its status", || {
            self.status(&[]).0 == Some(0)
        });
    }

    /// What `status` says, and its exit code.
    fn status(&self, arguments: &[&str]) -> (Option<i32>, String) {
        said(&mut self.forebay(&[&["status"], arguments].concat()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        let mut node = self.node.take().expect("it runs");
        node.kill().expect("it is ours");
        node.wait().expect("it is ours");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.node.is_some() {
            self.kill();
        }
    }
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().expect("it was built");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..DEADLINE.as_millis() / PAUSE.as_millis() {
        if holds() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a thread of the test's own")]
        std::thread::sleep(PAUSE);
    }
    panic!("not in time: {what}");
}

fn count(log: &str, message: &str) -> usize {
    log.lines().filter(|line| line.contains(message)).count()
}

/// Writes a secret with a root that ends in so many days.
fn write_root(path: &Path, name: &str, days: u64) {
    let ends = forebay::clock::unix_now() + Duration::from_secs(days * 86_400);
    let ends = DateTime::from_unix_duration(ends).expect("it is before the year 9999");
    let made = CertificateParams::new(Vec::new()).and_then(|mut params| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(i32::from(ends.year()), ends.month(), ends.day());
        params.self_signed(&KeyPair::generate()?)
    });
    let pem = made.expect("nothing is wrong with it").pem();
    let text = serde_json::json!({ "certificate": pem }).to_string();
    std::fs::write(path, text).expect("the directory is writable");
}

#[test]
fn status_is_printed_for_people_and_for_programs() {
    let mut site = Site::new("");
    site.start();
    let problem =
        "PROBLEM: Connection error. Please check your event source connection configuration.";
    eventually("the cluster's absence is told", || {
        site.status(&[]).1.contains(problem)
    });
    let (code, text) = site.status(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("node: Forebay "), "{text}");
    assert!(text.contains("\norders   Enabled "), "{text}");
    let (code, text) = site.status(&["orders"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ESM_CONFIG_NOT_VALID"), "{text}");
    let (code, text) = site.status(&["--json", "orders"]);
    assert_eq!(code, Some(0), "{text}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["format"], 1);
    assert_eq!(document["mappings"][0]["LastProcessingResult"], problem);
    let (code, text) = site.status(&["bills"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("the node has no mapping bills; it has orders"),
        "{text}"
    );
}

#[test]
fn a_node_that_was_killed_leaves_nothing_in_the_way_of_the_next() {
    let mut site = Site::new("");
    let (code, text) = site.status(&[]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("no node listens at"), "{text}");
    site.start();
    let (code, text) = said(&mut site.forebay(&["run"]));
    assert_eq!(code, Some(69), "{text}");
    assert!(
        text.contains("another node that runs serves its status there"),
        "{text}"
    );
    site.kill();
    assert!(site.path("state/status.sock").exists());
    assert_eq!(site.status(&[]).0, Some(69));
    site.start();
    assert!(
        !site.log().contains("Status is not served"),
        "{}",
        site.log()
    );
}

#[test]
fn certificates_and_secrets_are_warned_of_once() {
    let entry = |path: &Path| {
        format!(
            "SourceAccessConfigurations = [{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file:{}\" }}]",
            path.display()
        )
    };
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("root.json");
    write_root(&secret, "soon", 5);
    let mut site = Site::new(&entry(&secret));
    site.start();
    let soon = "Certificate expires soon";
    eventually("the certificate is warned of", || {
        count(&site.log(), soon) == 1
    });
    // A document is given away for a second.
    eventually("the status has it too", || {
        let (_, text) = site.status(&[]);
        text.contains("broker root certificate CN=soon of file:")
    });
    let (_, text) = said(&mut site.forebay(&["check", "--offline"]));
    assert!(
        text.contains("note: mapping orders: secret file:"),
        "{text}"
    );
    assert!(
        text.contains("broker root certificate CN=soon is valid until"),
        "{text}"
    );
    // A new one takes the warning away.
    write_root(&secret, "later", 300);
    eventually("the new one is used", || {
        site.status(&["orders"]).1.contains("CN=later")
    });
    std::fs::rename(&secret, secrets.path().join("away")).unwrap();
    let unreadable = "Secret cannot be read";
    eventually("the secret's absence is told", || {
        count(&site.log(), unreadable) == 1
    });
    let told = || site.status(&[]).1.contains("; since 11 s");
    eventually("it was tried twice more", told);
    assert_eq!(count(&site.log(), unreadable), 1, "{}", site.log());
    std::fs::rename(secrets.path().join("away"), &secret).unwrap();
    eventually("it can be read again", || {
        count(&site.log(), "Secret can be read again") == 1
    });
    assert_eq!(count(&site.log(), soon), 1, "{}", site.log());
}

#[test]
fn a_secret_that_is_of_no_use_is_found_by_check_without_asking_anybody() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("root.json");
    std::fs::write(&secret, "{\n  \"certificate\": \"x\"\n  \"more\": 1\n}\n").unwrap();
    let site = Site::new(&format!(
        "SourceAccessConfigurations = [{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file://{}\" }}]",
        secret.display()
    ));
    let (code, text) = said(&mut site.forebay(&["check", "--offline"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("problem: mapping orders: secret file:"),
        "{text}"
    );
    assert!(text.contains("look at line 3, column 3"), "{text}");
}

#[test]
fn an_entry_without_a_type_is_named() {
    let site = Site::new("SourceAccessConfigurations = [{ URI = \"file:/x.json\" }]");
    let (code, text) = said(&mut site.forebay(&["check", "--offline"]));
    assert_eq!(code, Some(78), "{text}");
    let expected =
        "mappings.d/orders.toml:3: SourceAccessConfigurations.Type: is missing in this entry";
    assert!(text.contains(expected), "{text}");
}
