//! Tidy is a test: layers, file heads and sizes, leftovers, and that the map names every folder.

use std::fs;
use std::path::{Path, PathBuf};

/// What a module of `src` may use besides itself. Modules that are not listed here fail the test.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("limits", &[]),
    ("time", &[]),
    ("websocket", &["limits", "ids"]),
    ("wire", &["limits", "ids", "time"]),
    ("rtm", &["limits", "ids", "time"]),
    ("centrifuge", &["limits", "ids", "time"]),
    ("control", &["ids", "wire"]),
    ("ring", &["limits", "ids", "time"]),
    ("tables", &["ids"]),
    ("shard", &["ids", "time", "wire", "ring", "limits"]),
    ("place", &["ids", "limits", "time", "wire", "ring", "shard"]),
    ("channel", &["ids", "limits", "time", "wire", "shard", "ring", "tables"]),
    (
        "gateway",
        &[
            "ids",
            "limits",
            "time",
            "wire",
            "shard",
            "ring",
            "tables",
            "websocket",
            "rtm",
            "centrifuge",
        ],
    ),
    ("presence", &["ids", "limits", "time", "wire", "shard", "ring", "tables"]),
    (
        "admin",
        &["ids", "limits", "time", "wire", "shard", "ring", "tables", "centrifuge", "control"],
    ),
    ("webapp", &["ids", "limits", "time", "wire", "shard", "ring", "tables", "control"]),
    ("charm", &["ids", "limits", "time", "wire", "shard", "ring"]),
    ("ops", &["ids", "limits", "time", "wire", "shard", "ring"]),
    (
        "runtime",
        &[
            "ids",
            "limits",
            "time",
            "wire",
            "shard",
            "place",
            "ring",
            "gateway",
            "channel",
            "presence",
            "admin",
            "charm",
            "webapp",
            "ops",
            "cli",
            "centrifuge",
            "control",
        ],
    ),
    ("load", &[]),
    ("ctl", &["ids", "limits", "ring", "wire"]),
    ("cli", &["ids", "limits", "wire", "ring", "centrifuge", "load", "ctl"]),
    ("lib", &[]),
    ("main", &["cli", "runtime", "ops", "load", "ctl"]),
];

/// Crates that only these modules may name: the rest stays pure.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("glommio", &["runtime"]),
    ("io_uring", &["runtime"]),
    ("tokio", &["runtime", "webapp", "ops", "control", "admin/api", "ring/store", "ctl", "load"]),
    ("axum", &["webapp", "ops", "runtime", "admin/api"]),
    ("sqlx", &["webapp"]),
    ("std::thread", &["runtime", "ops", "webapp", "load"]),
    ("std::fs", &["runtime", "ops", "webapp", "cli", "load", "ring/store", "ctl"]),
    ("std::net::Tcp", &["runtime", "ops", "webapp", "load"]),
    ("Instant::now", &["runtime", "ops", "webapp", "load", "admin/api", "ring/store"]),
    ("SystemTime::now", &["runtime", "ops", "webapp", "ctl"]),
    ("rustls", &["runtime"]),
    ("getrandom", &["runtime", "webapp", "ops", "load"]),
];

/// Pure files inside folders of the control plane: no tokio there either.
const PURE_FILES: &[&str] = &[
    "webapp/desk.rs",
    "webapp/keepers.rs",
    "webapp/paces.rs",
    "webapp/revoked.rs",
    "webapp/source.rs",
    "admin/dispatch.rs",
    "admin/finalise.rs",
    "admin/sweep.rs",
    "admin/shard.rs",
];

const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(under: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(under) else { return };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir()
            && !["target", "node_modules", ".git", "out", "__pycache__"].contains(&name)
        {
            files(&path, ending, into);
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(&root().join("src"), ".rs", &mut paths);
    assert!(paths.len() > 20, "the sources were found");
    paths
        .into_iter()
        .map(|path| {
            let name =
                path.strip_prefix(root().join("src")).expect("below src").display().to_string();
            (name, fs::read_to_string(&path).expect("a readable source"))
        })
        .collect()
}

fn module_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name).trim_end_matches(".rs")
}

/// The same, where one folder of a pure module is not pure.
fn part_of(name: &str) -> &str {
    let parts = ["admin/api", "ring/store"];
    let inside = |part: &&str| name.strip_prefix(*part).is_some_and(|rest| rest.starts_with('/'));
    parts.into_iter().find(inside).unwrap_or_else(|| module_of(name))
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]").next().unwrap_or(text);
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn domains_meet_on_the_wire_and_never_by_import() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let module = module_of(&name);
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else {
            wrong.push(format!("{name}: no layer for {module}"));
            continue;
        };
        for (at, _) in code(&text).match_indices("crate::") {
            let body = code(&text);
            let used: String =
                body[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != module && !used.is_empty() && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_modules_name_no_clock_no_socket_and_no_executor() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let module = part_of(&name);
        for (word, allowed) in OUTSIDE {
            let is_pure = !allowed.contains(&module) || PURE_FILES.contains(&name.as_str());
            if is_pure && !["lib", "main"].contains(&module) && code(&text).contains(word) {
                wrong.push(format!("{name} names {word}"));
            }
        }
        let may_wait =
            ["runtime", "webapp", "ops", "main", "control", "admin/api", "ring/store", "ctl"];
        if !may_wait.contains(&module) && code(&text).contains("async ") {
            wrong.push(format!("{name} is async"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for_and_fits_a_head() {
    let mut wrong = Vec::new();
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches"] {
        files(&root().join(folder), ".rs", &mut paths);
    }
    for path in paths {
        let text = fs::read_to_string(&path).expect("a readable source");
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not begin with //!", path.display()));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_stays_where_its_proofs_are() {
    let with: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| code(text).contains("allow(unsafe_code)"))
        .map(|(name, _)| name)
        .collect();
    assert!(with.len() <= 3, "unsafe in {with:?}");
}

#[test]
fn nothing_unfinished_is_left() {
    let marks = [
        "to".to_string() + "do!(",
        "unimple".to_string() + "mented!(",
        "FIX".to_string() + "ME",
        "TO".to_string() + "DO",
        "#[ig".to_string() + "nore",
        "allow(dead".to_string() + "_code)",
    ];
    let mut wrong = Vec::new();
    let mut paths = Vec::new();
    for (folder, ending) in [
        ("src", ".rs"),
        ("tests", ".rs"),
        ("tests", ".py"),
        ("tests", ".mjs"),
        ("tests", ".sh"),
        ("benches", ".rs"),
    ] {
        files(&root().join(folder), ending, &mut paths);
    }
    for path in paths {
        let text = fs::read_to_string(&path).expect("a readable file");
        for mark in &marks {
            if text.contains(mark.as_str()) {
                wrong.push(format!("{} has {mark}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_names_every_folder() {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for entry in fs::read_dir(root().join("src")).expect("src").filter_map(Result::ok) {
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("a plain name");
            assert!(
                map.contains(&format!("`{name}`")) || map.contains(&format!("[`{name}`]")),
                "lib.rs does not name {name}"
            );
            assert!(readme.contains(&format!("{name}/")), "README.md does not name {name}/");
        }
    }
}
