//! What a redrive has done: a file of JSON lines that is only ever appended to.
//!
//! The first line says of what; each other one what was sent of a document, or that all of it was. A line that was being
//! written when the process was killed has no end, and is taken away: what it told is done once more.
//!
//! Invariant: what is noted is on the disk before anything is removed, and a file of another redrive is never gone on
//! with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use forebay_protocol::limits::BATCH_SIZE_MAX;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// It changes with the meaning of the lines.
const FORMAT: &str = "forebay-redrive/1";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    format: String,
    mapping: String,
    from: String,
    /// A topic that was made anew has other records at the same offsets; nil where that is not known, or not asked.
    topic_id: String,
    to: String,
}

impl Subject {
    pub(super) fn new(mapping: Uuid, from: String, topic_id: Uuid, to: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            mapping: mapping.to_string(),
            from,
            topic_id: topic_id.to_string(),
            to: to.to_owned(),
        }
    }
}

impl Subject {
    /// Whether it is the one that is wanted.
    fn check(&self, wanted: &Self) -> Result<(), String> {
        let Self {
            mapping, from, to, ..
        } = self;
        if self == wanted {
            return Ok(());
        }
        let is_anew = Self {
            topic_id: wanted.topic_id.clone(),
            ..self.clone()
        } == *wanted;
        Err(match is_anew {
            true => format!("it is of a topic {from} that was made anew since"),
            false => format!("it is of a redrive of mapping {mapping} from {from} to {to}"),
        })
    }
}

/// Any other line.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    document: String,
    /// By partition, offsets: the first and the last of each run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sent: BTreeMap<i32, Vec<(i64, i64)>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
}

impl Line {
    /// Whether its runs are such as a document can have.
    fn is_bounded(&self) -> bool {
        let fits =
            |(first, last): &(i64, i64)| (0..i64::from(BATCH_SIZE_MAX)).contains(&(last - first));
        self.sent
            .values()
            .flatten()
            .all(|run| run.0 >= 0 && fits(run))
    }
}

/// Records of one document: by partition, their offsets.
pub(super) type Offsets = BTreeMap<i32, BTreeSet<i64>>;

/// Why there is no progress to go on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgressError {
    #[error("{path}: {source}; name another file with --progress")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}; name another file with --progress")]
    Other { path: PathBuf, what: String },
}

/// What was done so far.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    /// `None` if nothing is to be written.
    file: Option<File>,
    done: BTreeSet<String>,
    /// Of the documents that are not done.
    sent: BTreeMap<String, Offsets>,
}

impl Progress {
    /// Reads what is there, and changes nothing.
    pub(super) fn look(path: &Path, subject: &Subject) -> Result<Self, ProgressError> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes, subject).map(|(progress, _)| progress),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::empty(path)),
            Err(source) => Err(io_error(path)(source)),
        }
    }

    /// Goes on with the file, or begins it. Nobody else may as long as this lives.
    pub(super) fn open(path: &Path, subject: &Subject) -> Result<Self, ProgressError> {
        let failed = io_error(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(&failed)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(0o600);
        let mut file = options.open(path).map_err(&failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(other(path, "another redrive is at work with it"));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(&failed)?;
        let (mut progress, whole) = Self::parse(path, &bytes, subject)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(&failed)?;
        }
        progress.file = Some(file);
        if whole == 0 {
            progress.append(subject)?;
            // A name that is not on the disk yet would take the notes with it.
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new(".")));
            folder.and_then(|it| it.sync_all()).map_err(&failed)?;
        }
        Ok(progress)
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            done: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }

    /// What the lines tell, and how many bytes are whole lines. What is behind them may end within a character.
    fn parse(path: &Path, bytes: &[u8], subject: &Subject) -> Result<(Self, usize), ProgressError> {
        let mut progress = Self::empty(path);
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let whole = lines.split_last().map_or(&[][..], |(_, whole)| whole);
        for (at, line) in whole.iter().enumerate() {
            let unread = || other(path, format!("line {} is not of a redrive", at + 1));
            if at == 0 {
                let found: Subject = serde_json::from_slice(line).map_err(|_| unread())?;
                found.check(subject).map_err(|what| other(path, what))?;
                continue;
            }
            let line: Line = serde_json::from_slice(line).map_err(|_| unread())?;
            if !line.is_bounded() {
                return Err(unread());
            }
            progress.take(line);
        }
        Ok((progress, whole.iter().map(|line| line.len() + 1).sum()))
    }

    fn take(&mut self, line: Line) {
        if line.done {
            self.sent.remove(&line.document);
            self.done.insert(line.document);
            return;
        }
        let sent = self.sent.entry(line.document).or_default();
        for (partition, runs) in line.sent {
            let offsets = runs.into_iter().flat_map(|(first, last)| first..=last);
            sent.entry(partition).or_default().extend(offsets);
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether all of that document was sent.
    pub(super) fn is_done(&self, document: &str) -> bool {
        self.done.contains(document)
    }

    /// What was sent of it.
    pub(super) fn sent(&self, document: &str) -> Offsets {
        self.sent.get(document).cloned().unwrap_or_default()
    }

    /// These records of a document were sent.
    pub(super) fn note_sent(
        &mut self,
        document: &str,
        sent: &Offsets,
    ) -> Result<(), ProgressError> {
        let line = Line {
            document: document.to_owned(),
            sent: sent.iter().map(|(at, of)| (*at, runs(of))).collect(),
            done: false,
        };
        self.append(&line)?;
        self.take(line);
        Ok(())
    }

    /// All of a document was sent.
    pub(super) fn note_done(&mut self, document: &str) -> Result<(), ProgressError> {
        let line = Line {
            document: document.to_owned(),
            done: true,
            ..Line::default()
        };
        self.append(&line)?;
        self.take(line);
        Ok(())
    }

    /// Once it returns, the line is on the disk.
    fn append(&mut self, line: &impl Serialize) -> Result<(), ProgressError> {
        let mut text = serde_json::to_string(line).expect("all of its values have a form in JSON");
        text.push('\n');
        let file = self.file.as_mut().expect("whoever notes has opened it");
        let written = file.write_all(text.as_bytes());
        written
            .and_then(|()| file.sync_data())
            .map_err(io_error(&self.path))
    }
}

/// Neighbours as runs.
fn runs(offsets: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *offset => *last = *offset,
            _ => runs.push((*offset, *offset)),
        }
    }
    runs
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> ProgressError {
    move |source| ProgressError::Io {
        path: path.to_owned(),
        source,
    }
}

fn other(path: &Path, what: impl Into<String>) -> ProgressError {
    ProgressError::Other {
        path: path.to_owned(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(from: &str) -> Subject {
        Subject::new(Uuid::nil(), from.to_owned(), Uuid::nil(), "function")
    }

    fn offsets(partition: i32, of: &[i64]) -> Offsets {
        Offsets::from([(partition, of.iter().copied().collect())])
    }

    /// A folder with a file, in which something was noted.
    fn begun() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("progress.jsonl");
        let mut progress = Progress::open(&path, &subject("s3://a/")).unwrap();
        progress
            .note_sent("one", &offsets(3, &[7, 8, 9, 11]))
            .unwrap();
        progress.note_sent("two", &offsets(0, &[1])).unwrap();
        progress.note_done("two").unwrap();
        (dir, path)
    }

    #[track_caller]
    fn check(progress: &Progress) {
        assert!(progress.is_done("two") && !progress.is_done("one") && !progress.is_done("three"));
        assert_eq!(progress.sent("one"), offsets(3, &[7, 8, 9, 11]));
        assert_eq!(progress.sent("two"), Offsets::new());
    }

    #[test]
    fn what_was_noted_is_found_again() {
        let (_dir, path) = begun();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(r#"{"document":"one","sent":{"3":[[7,9],[11,11]]}}"#),
            "{text}"
        );
        check(&Progress::look(&path, &subject("s3://a/")).unwrap());
        let mut progress = Progress::open(&path, &subject("s3://a/")).unwrap();
        check(&progress);
        progress.note_sent("one", &offsets(4, &[1])).unwrap();
        drop(progress);
        let progress = Progress::look(&path, &subject("s3://a/")).unwrap();
        assert_eq!(progress.sent("one").len(), 2);
    }

    #[test]
    fn a_line_without_its_end_is_taken_away() {
        let (_dir, path) = begun();
        let mut progress = Progress::open(&path, &subject("s3://a/")).unwrap();
        progress.note_done("tw\u{f6}").unwrap();
        drop(progress);
        let whole = fs::read(&path).unwrap();
        let last = whole.len() - "{\"document\":\"tw\u{f6}\",\"done\":true}\n".len();
        for cut in last + 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let progress = Progress::look(&path, &subject("s3://a/")).unwrap();
            assert!(!progress.is_done("tw\u{f6}"));
            let mut progress = Progress::open(&path, &subject("s3://a/")).unwrap();
            progress.note_done("tw\u{f6}").unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // Not even the first line was whole: it begins anew.
        fs::write(&path, &whole[..10]).unwrap();
        let progress = Progress::open(&path, &subject("s3://b/")).unwrap();
        assert!(!progress.is_done("two"));
    }

    #[test]
    fn a_file_of_another_redrive_is_not_gone_on_with() {
        let (_dir, path) = begun();
        let before = fs::read(&path).unwrap();
        let error = Progress::open(&path, &subject("s3://b/")).unwrap_err();
        let said = error.to_string();
        assert!(
            said.ends_with(
                "it is of a redrive of mapping 00000000-0000-0000-0000-000000000000 from s3://a/ to function; \
                 name another file with --progress"
            ),
            "{said}"
        );
        let renewed = Subject {
            topic_id: Uuid::max().to_string(),
            ..subject("s3://a/")
        };
        let said = Progress::open(&path, &renewed).unwrap_err().to_string();
        assert!(said.contains("that was made anew since"), "{said}");
        for text in ["hello\n", "{}\n", "\n"] {
            fs::write(&path, text).unwrap();
            let said = Progress::look(&path, &subject("s3://a/")).unwrap_err();
            assert!(
                said.to_string().contains("line 1 is not of a redrive"),
                "{said}"
            );
        }
        let endless = String::from_utf8(before.clone())
            .unwrap()
            .replace("[7,9]", "[7,9223372036854775807]");
        fs::write(&path, endless).unwrap();
        Progress::open(&path, &subject("s3://a/")).unwrap_err();
        let damaged = String::from_utf8(before)
            .unwrap()
            .replacen("\"one\"", "one", 1);
        fs::write(&path, damaged).unwrap();
        let said = Progress::open(&path, &subject("s3://a/")).unwrap_err();
        assert!(
            said.to_string().contains("line 2 is not of a redrive"),
            "{said}"
        );
    }

    #[test]
    fn two_do_not_work_with_one_file() {
        let (_dir, path) = begun();
        let held = Progress::open(&path, &subject("s3://a/")).unwrap();
        let said = Progress::open(&path, &subject("s3://a/")).unwrap_err();
        assert!(
            said.to_string()
                .contains("another redrive is at work with it"),
            "{said}"
        );
        drop(held);
        Progress::open(&path, &subject("s3://a/")).unwrap();
    }
}
