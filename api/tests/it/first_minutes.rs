//! The five commands of the README, as a newcomer would run them.

use std::process::Stdio;

use cryptopay_test_support::block_on;
use serde_json::{Deserializer, Value};

use crate::harness::{Installation, within};

const README: &str = include_str!("../../../README.md");
const README_BASE: &str = "http://127.0.0.1:8080";

/// The one block of shell commands in the README.
fn tour() -> Vec<&'static str> {
    let mut blocks = README.split("```sh\n").skip(1);
    let block = blocks.next().expect("the README should have a block of shell commands");
    assert!(blocks.next().is_none(), "which block is the tour?");
    block.split("```").next().unwrap().lines().collect()
}

#[test]
fn the_tour_of_the_readme_ends_with_a_confirmed_webhook_and_is_what_the_binary_prints() {
    block_on(async {
        let process = Installation::bare().start().await;
        let commands: Vec<String> = tour().iter().map(|line| line.replace(README_BASE, process.base())).collect();
        let indented: Vec<String> = commands.iter().map(|line| format!("    {line}")).collect();
        let wanted = indented.join("\n");
        assert!(process.printed().contains(&wanted), "{}\n--- should have\n{wanted}", process.printed());

        let mut shell = std::process::Command::new("sh");
        shell.args(["-eu", "-c", &commands.join("\n")]).stdin(Stdio::null());
        let run = tokio::task::spawn_blocking(move || shell.output().unwrap());
        let output = within(std::time::Duration::from_secs(90), "the tour", run).await.unwrap();
        let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{printed}{complaints}");
        let answers: Vec<Value> = Deserializer::from_str(&printed).into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer["success"] == true), "{printed}");
        let inbox = answers.last().unwrap();
        let webhook = &inbox["results"][0];
        assert_eq!((&inbox["count"], &webhook["event"]), (&1.into(), &"payment.confirmed".into()), "{inbox}");
        assert_eq!(webhook["signature_valid"], true, "{inbox}");
    });
}
