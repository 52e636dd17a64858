//! Replays the corpus of each target, then mutations of it, on a stable compiler without a fuzzer.
//!
//! An input that fails is written to `artifacts/<target>/`, where `cargo fuzz` puts its own, and goes
//! into the corpus once the bug is fixed.

use fuzz::{Mutator, TARGETS, Target};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: replay [--mutations N] [--seed S] [TARGET]...";

struct Args {
    mutations: u32,
    seed: u64,
    targets: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = parse(std::env::args().skip(1)).and_then(|args| run(&args));
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("replay: {failed} inputs failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { mutations: 20_000, seed: 1, targets: Vec::new() };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or(USAGE)?;
            value.parse().map_err(|e| format!("{word} {value}: {e}"))
        };
        match word.as_str() {
            "--mutations" => {
                args.mutations = u32::try_from(number()?).map_err(|e| e.to_string())?
            }
            "--seed" => args.seed = number()?,
            flag if flag.starts_with('-') => return Err(USAGE.into()),
            target => args.targets.push(target.to_owned()),
        }
    }
    let known = |name: &String| TARGETS.iter().any(|(n, _)| n == name);
    match args.targets.iter().find(|name| !known(name)) {
        Some(name) => {
            let all: Vec<&str> = TARGETS.iter().map(|(n, _)| *n).collect();
            Err(format!("no target {name}; there are {}", all.join(", ")))
        }
        None => Ok(args),
    }
}

fn run(args: &Args) -> Result<usize, String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failed = 0;
    for target in TARGETS {
        let (name, _) = target;
        if args.targets.is_empty() || args.targets.iter().any(|t| t == name) {
            failed += replay(target, home, args)?;
        }
    }
    Ok(failed)
}

/// Returns how many inputs failed; mutating ends at the first one.
fn replay(target: &Target, home: &Path, args: &Args) -> Result<usize, String> {
    let (name, _) = target;
    let corpus = corpus(&home.join("corpus").join(name))?;
    if corpus.is_empty() {
        return Err(format!("the corpus of {name} is empty"));
    }
    let mut failed = 0;
    for (file, input) in &corpus {
        if !survives(target, input) {
            eprintln!("{name}: {} fails", file.display());
            failed += 1;
        }
    }
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(args.seed);
    for n in 0..args.mutations {
        let input = mutator.input(&inputs);
        if !survives(target, &input) {
            let kept = keep(&home.join("artifacts").join(name), args.seed, n, &input)?;
            eprintln!(
                "{name}: mutation {n} of seed {} fails, kept as {}",
                args.seed,
                kept.display()
            );
            return Ok(failed + 1);
        }
    }
    println!("{name}: {} corpus inputs and {} mutations", inputs.len(), args.mutations);
    Ok(failed)
}

fn survives((_, target): &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(input))).is_ok()
}

/// The files of a folder, in the order of their names.
fn corpus(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let at = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let input = fs::read(&path).map_err(at)?;
        files.push((path, input));
    }
    files.sort();
    Ok(files)
}

fn keep(folder: &Path, seed: u64, n: u32, input: &[u8]) -> Result<PathBuf, String> {
    let path = folder.join(format!("seed-{seed}-mutation-{n}"));
    fs::create_dir_all(folder).and_then(|()| fs::write(&path, input)).map_err(|e| e.to_string())?;
    Ok(path)
}
