//! Fills `{{names}}` in a text, once: what is filled in is not looked at again. Values are escaped unless they are
//! marked as trusted.

use std::borrow::Cow;
use std::fmt::Display;

/// A value for a place in a template.
#[derive(Debug)]
pub(super) enum Slot<'a> {
    /// Text from anywhere: escaped, for content and quoted attributes.
    Text(String),
    /// HTML of our own making.
    Trusted(Cow<'a, str>),
}

impl<'a> Slot<'a> {
    /// Any text.
    pub(super) fn text(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }

    /// HTML of our own making.
    pub(super) fn trusted(html: impl Into<Cow<'a, str>>) -> Self {
        Self::Trusted(html.into())
    }

    /// The attribute `hidden`, or nothing.
    pub(super) fn hidden_unless(shown: bool) -> Self {
        Self::trusted(if shown { "" } else { "hidden" })
    }
}

/// Puts what `slot` returns in the place of each `{{name}}`; an unknown name stays empty.
pub(super) fn fill<'a>(template: &str, slot: impl Fn(&str) -> Option<Slot<'a>>) -> String {
    let mut filled = String::with_capacity(template.len().saturating_mul(2));
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        match slot(name) {
            Some(Slot::Text(text)) => escape_into(&mut filled, &text),
            Some(Slot::Trusted(html)) => filled.push_str(&html),
            None => debug_assert!(false, "no value for {name}"),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn escape_into(html: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_never_filled_again() {
        let filled = fill("<p title=\"{{a}}\">{{b}}</p>", |name| match name {
            "a" => Some(Slot::text("\"><script>'&")),
            "b" => Some(Slot::trusted("<b>{{a}}</b>")),
            _ => None,
        });
        assert_eq!(filled, "<p title=\"&quot;&gt;&lt;script&gt;&#39;&amp;\"><b>{{a}}</b></p>");
    }
}
