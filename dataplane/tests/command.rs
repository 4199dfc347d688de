//! The binary as a shell and a service manager see it: exit codes, and pipes that nobody reads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// A configuration whose cluster and function nobody serves.
fn configured(dir: &Path, listen: SocketAddr) -> PathBuf {
    let file = dir.join("forebay.toml");
    let text = format!(
        "mappings_dir = \"mappings.d\"\nstate_dir = \"state\"\nruntime_dir = \"run\"\nlisten = \"{listen}\"\nshards = 1\n\
         endpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n"
    );
    std::fs::create_dir(dir.join("mappings.d")).expect("the directory is new");
    std::fs::write(&file, text).expect("the directory is writable");
    let mapping = "FunctionName = \"f\"\nTopics = [\"orders\"]\n\
                   SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n";
    std::fs::write(dir.join("mappings.d/orders.toml"), mapping).expect("the directory is writable");
    file
}

fn forebay(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("--config").arg(config);
    command
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound")
}

/// Asks again and again, until the deadline.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..DEADLINE.as_millis() / PAUSE.as_millis() {
        if let Some(answer) = ask() {
            return answer;
        }
        #[expect(clippy::disallowed_methods, reason = "a thread of the test's own")]
        std::thread::sleep(PAUSE);
    }
    panic!("not in time: {what}");
}

fn ready(addr: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(addr).ok()?;
    let request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

/// A node that is ready; its log goes there.
fn started(config: &Path, addr: SocketAddr, log: impl Into<Stdio>) -> Child {
    let node = forebay(&["run"], config).stderr(log).spawn();
    let node = node.expect("it was built");
    eventually("the node is ready", || ready(addr));
    node
}

fn terminate(node: &mut Child) -> ExitStatus {
    let pid = rustix::process::Pid::from_child(node);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    eventually("the node ends", || node.try_wait().expect("it is ours"))
}

#[test]
fn a_closed_pipe_ends_no_command_with_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), free_port());
    let closed = || std::io::pipe().unwrap().1;
    let checked = forebay(&["check", "--offline"], &config)
        .stdout(closed())
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let missing = dir.path().join("missing.toml");
    let refused = forebay(&["run"], &missing).stderr(closed()).status();
    assert_eq!(refused.unwrap().code(), Some(78));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = configured(dir.path(), addr);
    let (_reader, mut pipe) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    while pipe.write(&[b'\n'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let mut node = started(&config, addr, pipe);
    assert_eq!(terminate(&mut node).code(), Some(0));
}

#[test]
fn the_last_line_is_written_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = configured(dir.path(), addr);
    let mut node = started(&config, addr, Stdio::piped());
    assert_eq!(terminate(&mut node).code(), Some(0));
    let mut log = String::new();
    let mut pipe = node.stderr.take().unwrap();
    pipe.read_to_string(&mut log).unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("Ended"), "{log}");
}

/// What a command says, and its exit code.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("it was built");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

#[test]
fn an_address_that_is_taken_is_found_by_check_and_has_an_exit_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let config = configured(dir.path(), addr);
    let (code, text) = said(&mut forebay(&["run"], &config));
    assert_eq!(code, Some(69), "{text}");
    let advice = "another process serves it (ss -ltnp says which)";
    assert!(text.contains(advice), "{text}");
    std::thread::spawn(move || while taken.accept().is_ok() {});
    let (code, text) = said(&mut forebay(&["check"], &config));
    assert_eq!(code, Some(1), "{text}");
    let problem = format!("problem: listen {addr}: cannot be bound");
    assert!(text.contains(&problem) && text.contains(advice), "{text}");
}

#[test]
fn an_address_that_a_node_serves_is_no_problem_to_check() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = configured(dir.path(), addr);
    let mut node = started(&config, addr, Stdio::null());
    let (_, text) = said(&mut forebay(&["check"], &config));
    assert_eq!(terminate(&mut node).code(), Some(0));
    let note = format!("note: listen {addr}: a node of Forebay serves it already");
    assert!(text.contains(&note), "{text}");
}

#[test]
fn a_state_directory_is_one_nodes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = configured(dir.path(), addr);
    let mut node = started(&config, addr, Stdio::null());
    let keys = std::fs::read_to_string(&config).unwrap();
    let other = dir.path().join("other.toml");
    let keys = keys.replace("\"run\"", "\"other-run\"");
    let elsewhere = free_port();
    let keys = keys.replace(&addr.to_string(), &elsewhere.to_string());
    std::fs::write(&other, keys).unwrap();
    let (code, text) = said(&mut forebay(&["run"], &other));
    assert_eq!(code, Some(69), "{text}");
    let expected = format!(
        "state_dir: {}: another node that runs keeps its state there; give this one a state_dir of its own",
        dir.path().join("state").display()
    );
    assert!(text.contains(&expected), "{text}");
    // Killed, it keeps nobody out.
    node.kill().unwrap();
    node.wait().unwrap();
    let mut node = started(&other, elsewhere, Stdio::null());
    assert_eq!(terminate(&mut node).code(), Some(0));
}

#[test]
fn check_refuses_what_run_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), free_port());
    let keys = std::fs::read_to_string(&config).unwrap();
    let keys = keys.replace("\"state\"", "\"forebay.toml/state\"");
    std::fs::write(&config, format!("node_id = \"auto\"\n{keys}")).unwrap();
    let expected =
        "node_id = \"auto\" is kept there: Not a directory (os error 20); correct state_dir";
    for arguments in [&["check", "--offline"][..], &["check"], &["run"]] {
        let output = forebay(arguments, &config).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        // What a check finds is what it was asked for.
        let (said, not_said) = match arguments[0] {
            "check" => (output.stdout, output.stderr),
            _ => (output.stderr, output.stdout),
        };
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(expected), "{said}");
        assert_eq!(String::from_utf8_lossy(&not_said), "");
    }
}

#[test]
fn a_driver_that_is_not_to_be_had_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), free_port());
    let check = |variable: &str, value: &str, code: i32, expected: &str| {
        for arguments in [&["check", "--offline"][..], &["run"]] {
            let mut command = forebay(arguments, &config);
            let (said_code, text) = said(command.env(variable, value));
            assert_eq!(said_code, Some(code), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    };
    check("FOREBAY_DRIVER", "kqueue", 78, "io_uring, epoll");
    check("FOREBAY_RING", "fast", 78, "single_issuer, defer_taskrun");
    // The kernel defers only for a thread that submits alone.
    check(
        "FOREBAY_RING",
        "defer_taskrun",
        71,
        "refused by this kernel",
    );
}

#[test]
fn a_section_that_fits_no_mapping_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let config = configured(dir.path(), free_port());
    let keys = std::fs::read_to_string(&config).unwrap();
    let more = "[functions.orders]\nmax_in_flight = 1\n";
    std::fs::write(&config, format!("{keys}{more}")).unwrap();
    let (code, text) = said(&mut forebay(&["check", "--offline"], &config));
    assert_eq!(code, Some(0), "{text}");
    let note = "forebay.toml: [functions.orders]: no mapping calls it";
    assert!(text.contains(note), "{text}");
}

#[test]
fn a_reload_says_which_keys_take_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_port();
    let config = configured(dir.path(), addr);
    let mut node = started(&config, addr, Stdio::piped());
    let keys = std::fs::read_to_string(&config).unwrap();
    let changed = format!(
        "grace_ms = 1000\n{}",
        keys.replace("shards = 1", "shards = 2")
    );
    std::fs::write(&config, changed).unwrap();
    let pid = rustix::process::Pid::from_child(&node);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let mut log = String::new();
    let mut pipe = node.stderr.take().unwrap();
    let expected = "these keys take a restart, only the mappings were read again";
    while !log.contains(expected) {
        let mut some = [0; 4096];
        let read = pipe.read(&mut some).unwrap();
        assert!(read > 0, "{log}");
        log.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    assert!(log.contains("grace_ms, shards"), "{log}");
    terminate(&mut node);
}
