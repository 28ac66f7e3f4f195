//! What is in a page: its fenced blocks, its links, its headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page and the blocks of code in it.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) blocks: Vec<Block>,
    /// Lines of the whole page.
    pub(super) lines: usize,
}

/// A fenced block.
pub(super) struct Block {
    /// The word after the fence.
    pub(super) language: String,
    /// Line of the opening fence, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Page {
    /// A page of this one example, for tests of the start page.
    pub(super) fn of_example(language: &str, text: &str) -> Self {
        let block = Block { language: language.to_owned(), line: 1, text: text.to_owned() };
        Self { path: PathBuf::from("example.md"), blocks: vec![block], lines: text.lines().count() + 2 }
    }

    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (index, line) in text.lines().enumerate() {
            let fence = line.strip_prefix("```");
            match fence {
                Some(info) if !open => {
                    assert!(!info.is_empty(), "{}:{}: a block without a language", path.display(), index + 1);
                    blocks.push(Block { language: info.to_owned(), line: index + 1, text: String::new() });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    let text = &mut blocks.last_mut().unwrap().text;
                    text.push_str(line);
                    text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: the last block does not end", path.display());
        Self { path: path.to_owned(), blocks, lines: text.lines().count() }
    }

    pub(super) fn blocks_in(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }

    /// File and line of a block, for people.
    pub(super) fn at(&self, block: &Block) -> String {
        let folder = self.path.parent().and_then(Path::file_name).unwrap_or_default();
        let file = self.path.file_name().unwrap_or_default();
        format!("{}/{}:{}", folder.display(), file.display(), block.line)
    }
}

/// The targets of the links in a page.
pub(super) fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// What the headings of a page are linked by.
pub(super) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}
