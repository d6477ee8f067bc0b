//! The built-in guide model: trained by the program that lies beside it, scored on questions it has never seen.

use std::{fmt, fs};

use serde_json::Value;

use crate::{
    run::{Error, command, output, root, run},
    tools,
};

/// How many held-out questions were answered with the fact they ask for.
pub(crate) struct Score {
    pub(crate) right: usize,
    asked: usize,
    right_vietnamese: usize,
    asked_vietnamese: usize,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, asked, right_vietnamese, asked_vietnamese } = self;
        write!(
            f,
            "{right} of {asked} held-out questions, Vietnamese {right_vietnamese} of {asked_vietnamese}"
        )
    }
}

/// Trains the model again; the folder's README says how long that takes.
///
/// # Errors
/// If PyTorch cannot be fetched, or the training fails.
pub(crate) fn train() -> Result<(), Error> {
    let python = tools::python("references", &[crate::fixtures::REFERENCES])?;
    run(command(python, &[&folder().join("train.py").to_string_lossy()]))
}

/// Asks every held-out question at temperature 0, through the same program that users run.
///
/// # Errors
/// If the program cannot be built or run, or the questions cannot be read.
pub(crate) fn score() -> Result<Score, Error> {
    run(command("cargo", &["build", "--quiet", "--package", "hub-examples", "--example", "guide_answers"]))?;
    let questions = fs::read_to_string(folder().join("held_out.jsonl"))?;
    let questions: Vec<Value> = questions.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let program =
        root().join("target/debug/examples").join(format!("guide_answers{}", std::env::consts::EXE_SUFFIX));
    let asked: Vec<&str> = questions.iter().filter_map(|question| question["question"].as_str()).collect();
    let (answers, is_success) = output(command(program, &asked))?;
    if !is_success {
        return Err("the guide model gave no answers".into());
    }
    let answers: Vec<&str> = answers.lines().collect();
    if answers.len() != questions.len() {
        return Err(format!("{} answers to {} questions", answers.len(), questions.len()).into());
    }
    let mut score = Score { right: 0, asked: 0, right_vietnamese: 0, asked_vietnamese: 0 };
    for (question, answer) in questions.iter().zip(answers) {
        let is_vietnamese = usize::from(question["lang"] == "vi");
        let is_right = usize::from(holds_fact(answer, question));
        score.asked += 1;
        score.right += is_right;
        score.asked_vietnamese += is_vietnamese;
        score.right_vietnamese += is_vietnamese * is_right;
    }
    Ok(score)
}

/// Every entry of `must_contain` is in the answer; an entry may list alternatives, separated by `|`.
fn holds_fact(answer: &str, question: &Value) -> bool {
    let answer = answer.to_lowercase();
    let entries = question["must_contain"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |entry: &Value| {
        entry.as_str().unwrap_or_default().split('|').any(|fact| answer.contains(&fact.trim().to_lowercase()))
    };
    !entries.is_empty() && entries.iter().all(holds)
}

fn folder() -> std::path::PathBuf {
    root().join("crates/hub-models/guide")
}
