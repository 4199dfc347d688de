//! The house's rules that a machine can check, so that continuous integration has none of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// The hard end of a file, in lines.
const FILE_LINES_MAX: usize = 800;

/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are one table from end to end: longer, and still read at a glance.
const TABLES: &[(&str, &str)] = &[
    ("dataplane/src/config/mod.rs", "build"),
    ("dataplane/src/mapping/file.rs", "refused"),
    (
        "protocol/src/lambda/invoke.rs",
        "every_error_of_the_catalogue_has_its_class",
    ),
];

/// Who must not name whom: below the first path, the second text does not stand.
const FLOORS: &[(&str, &str)] = &[
    ("protocol/src", "monoio"),
    ("protocol/src", "tokio::"),
    ("protocol/src", "std::net"),
    ("protocol/src", "Instant::now"),
    ("protocol/src", "SystemTime::now"),
    ("protocol/src/kafka", "crate::lambda"),
    ("protocol/src/kafka", "crate::http"),
    ("protocol/src/kafka", "crate::delivery"),
    ("protocol/src/filter", "crate::kafka"),
    ("protocol/src/filter", "crate::lambda"),
    ("protocol/src/filter", "crate::http"),
    ("protocol/src/filter", "crate::delivery"),
    ("protocol/src/lambda", "crate::http"),
    ("protocol/src/lambda", "crate::delivery"),
    ("protocol/src/http", "crate::kafka"),
    ("protocol/src/http", "crate::lambda"),
    ("protocol/src/http", "crate::delivery"),
    ("dataplane/src/control", "monoio"),
    ("dataplane/src/control", "crate::net"),
    ("dataplane/src/config", "monoio"),
    ("dataplane/src/mapping", "monoio"),
    ("dataplane/src/net", "tokio::"),
    ("dataplane/src/net", "crate::shard"),
    ("dataplane/src/net", "crate::control"),
    ("dataplane/src/shard", "crate::control"),
    ("dataplane/src/mapping", "crate::shard"),
    ("dataplane/src/mapping", "crate::control"),
    ("dataplane/src/status", "crate::control"),
    ("dataplane/src/status", "crate::mapping"),
    ("dataplane/src/status", "monoio"),
];

/// A test that plays control may use what control uses.
const FLOOR_EXCEPTIONS: &[(&str, &str)] = &[("dataplane/src/shard/mod.rs", "tokio::")];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the workspace holds the package")
        .to_owned()
}

/// Files of the project with that ending, as path from the root and text.
fn files(ending: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the project can be read") {
            let path = entry.expect("the project can be read").path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            if path.is_dir() {
                // Hidden folders hold tools' own files.
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|it| it == ending) {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let shown = path.strip_prefix(&root).expect("below the root");
                found.push((shown.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no *.{ending} below {}", root.display());
    found.sort();
    found
}

fn check(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The functions of a file: name and number of lines. As rustfmt leaves them: the closing brace stands
/// below the first letter of the head.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|line| *line == closing);
        if let Some(length) = length {
            found.push((name, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.trim_start().split(' ');
    loop {
        let word = words.next()?;
        if word == "fn" {
            let name = words.next()?;
            let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
            // A declaration or a body on one line has nothing to measure.
            return (line.ends_with('{') || line.ends_with('('))
                .then(|| name.chars().take(end).collect());
        }
        if !(word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word)) {
            return None;
        }
    }
}

#[test]
fn files_end_in_time() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX)
            .then(|| format!("{path}: {lines} lines; split out its second noun"))
    };
    check(&files("rs").into_iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn functions_fit_a_screen() {
    let mut problems = Vec::new();
    let mut measured = 0;
    for (path, text) in files("rs") {
        for (name, lines) in functions(&text) {
            measured += 1;
            if lines > FUNCTION_LINES_MAX && !TABLES.contains(&(path.as_str(), name.as_str())) {
                problems.push(format!("{path}: {name} has {lines} lines"));
            }
        }
    }
    assert!(measured > 500, "only {measured} functions were found");
    check(&problems);
}

#[test]
fn imports_point_down() {
    let mut problems = Vec::new();
    for (path, text) in files("rs") {
        for (below, banned) in FLOORS {
            let excepted = FLOOR_EXCEPTIONS.contains(&(path.as_str(), *banned));
            let lies_below = path.starts_with(&format!("{below}/"));
            if !lies_below || excepted {
                continue;
            }
            let code = |line: &&str| !line.trim_start().starts_with("//");
            if text.lines().filter(code).any(|line| line.contains(banned)) {
                problems.push(format!(
                    "{path}: names {banned}, which lies above it or beside it"
                ));
            }
        }
    }
    check(&problems);
}

#[test]
fn pages_have_one_title() {
    let mut problems = Vec::new();
    for (path, text) in files("md") {
        let mut in_code = false;
        let mut titles = 0;
        for line in text.lines() {
            if line.starts_with("```") {
                in_code = !in_code;
            }
            titles += usize::from(!in_code && line.starts_with("# "));
        }
        if titles != 1 {
            problems.push(format!("{path}: {titles} titles"));
        }
    }
    check(&problems);
}

#[test]
fn no_module_is_dead() {
    let sources = files("rs");
    let mut problems = Vec::new();
    for (path, _) in &sources {
        let is_module = [
            "protocol/src/",
            "dataplane/src/",
            "tests/src/",
            "bench/src/",
        ]
        .iter()
        .any(|folder| path.starts_with(folder));
        let file = Path::new(path);
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let (Some(stem), Some(folder)) = (stem, file.parent()) else {
            continue;
        };
        if !is_module || ["lib", "main"].contains(&stem.as_str()) {
            continue;
        }
        let (name, home) = if stem == "mod" {
            let name = folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            (name.unwrap_or_default(), folder.parent().unwrap_or(folder))
        } else {
            (stem, folder)
        };
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|it| home.join(it));
        let beside = home.with_extension("rs");
        let declared = sources
            .iter()
            .filter(|(path, _)| {
                let path = Path::new(path);
                path == beside || parents.iter().any(|parent| path == parent)
            })
            .any(|(_, text)| text.contains(&format!("mod {name};")));
        if !declared {
            problems.push(format!("{path}: nobody declares it"));
        }
    }
    check(&problems);
}

#[test]
fn functions_are_measured_as_they_stand() {
    let text = "impl A {\n    pub(crate) async fn one(\n        a: u8,\n    ) {\n        b();\n    }\n}\nfn two() {\n}\n";
    assert_eq!(
        functions(text),
        [("one".to_owned(), 5), ("two".to_owned(), 2)]
    );
}
