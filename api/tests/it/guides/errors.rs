//! The table of error codes in the guide is the one of the code.

use std::fs;

use cryptopay_test_support::block_on;

use super::docs;
use crate::harness::Installation;

const BEGIN: &str = "<!-- Written by `cryptopay export errors`. -->\n";
const END: &str = "<!-- To here. -->";
/// Set to 1, it writes the table instead of comparing it.
const UPDATE: &str = "UPDATE_EXPECT";

#[test]
fn the_table_of_errors_in_the_guide_is_the_one_of_the_code() {
    block_on(async {
        let exported = Installation::bare().run(["export", "errors"]).await;
        assert_eq!(exported.code(), 0, "{exported:?}");
        let path = docs().join("guides/errors.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("a table");
        let (table, after) = rest.split_once(END).expect("the table's end");
        if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
            fs::write(&path, [before, BEGIN, &exported.stdout, END, after].concat()).unwrap();
        } else {
            assert_eq!(table, exported.stdout, "docs/guides/errors.md is not up to date: set {UPDATE}=1");
        }
    });
}
