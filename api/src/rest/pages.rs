//! Pages of lists: `page` or `after`, `page_size`, `ordering`, and the addresses of the neighbours with every other parameter
//! kept.

#[cfg(test)]
mod tests;

use poem::Request;
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use url::form_urlencoded;

use super::envelope::Page;
use crate::app::App;
use crate::error::{ApiError, Faults};
use crate::fields::as_sentence;
use crate::operations::pages::{Asked, ListPage, Neighbour};

/// Items on a page unless the request says otherwise.
const DEFAULT_PAGE_SIZE: u64 = 20;
/// Most items on a page; a larger wish is served with this many.
const MAX_PAGE_SIZE: u64 = 100;

/// The query of a list request: filters are read by name, faults collected.
#[derive(Debug)]
pub struct ListQuery {
    path: String,
    parameters: Vec<(String, String)>,
    /// Faults found so far.
    pub faults: Faults,
    page: u64,
    page_size: u64,
}

impl ListQuery {
    /// Reads the query of a request.
    pub fn of(request: &Request) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let mut path = request.original_uri().path().to_owned();
        if !path.ends_with('/') {
            path.push('/');
        }
        let mut list = Self { path, parameters, faults: Faults::new(), page: 1, page_size: DEFAULT_PAGE_SIZE };
        list.page = list.positive("page").unwrap_or(1);
        list.page_size = list.positive("page_size").unwrap_or(DEFAULT_PAGE_SIZE).min(MAX_PAGE_SIZE);
        list
    }

    /// A parameter that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A parameter that is any text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.get(name)?.to_owned();
        // PostgreSQL cannot read it, and nobody means it.
        if text.contains('\0') {
            self.fault(name, "Must not contain the character U+0000.");
            return None;
        }
        Some(text)
    }

    /// A parameter that is true or false, in any case.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.get(name)?.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.fault(name, "Must be one of: true, false.");
                None
            }
        }
    }

    /// The slug of a chain that this gateway serves, from the parameter `blockchain`.
    pub fn chain(&mut self, app: &App) -> Option<String> {
        let chain = app.chain(self.get("blockchain")?);
        if chain.is_none() {
            self.fault("blockchain", app.unknown_chain());
        }
        chain.map(|chain| chain.slug.clone())
    }

    /// A parameter parsed into a type.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        match self.get(name)?.parse() {
            Ok(value) => Some(value),
            Err(problem) => {
                let mut problem = as_sentence(problem.to_string());
                let is_mended = |text: &str| text.contains(' ') && text.replace(' ', "+").parse::<T>().is_ok();
                if self.get(name).is_some_and(is_mended) {
                    problem.push_str(" A + in an address is read as a blank: write it as %2B.");
                }
                self.fault(name, problem);
                None
            }
        }
    }

    /// A comma-separated list of words, each once.
    pub fn words<T: std::str::FromStr + PartialEq>(&mut self, name: &str) -> Vec<T>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.get(name).map(str::to_owned) else { return Vec::new() };
        let mut words: Vec<T> = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.to_lowercase().parse() {
                Ok(value) if words.contains(&value) => {}
                Ok(value) => words.push(value),
                Err(problem) => {
                    let problem = as_sentence(problem.to_string());
                    self.fault(name, format!("Unknown value \"{}\". {problem}", shortened(word)));
                }
            }
        }
        words
    }

    /// Notes a fault.
    pub fn fault(&mut self, name: &str, problem: impl Into<String>) {
        self.faults.entry(name.to_owned()).or_default().push(problem.into());
    }

    /// The end of judging: every fault at once, or none.
    ///
    /// # Errors
    /// The faults.
    pub fn finish(&self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::fields(self.faults.clone())) }
    }

    /// Items before this page.
    pub fn offset(&self) -> u64 {
        self.page.saturating_sub(1).saturating_mul(self.page_size)
    }

    /// Items on this page.
    pub fn limit(&self) -> u64 {
        self.page_size
    }

    /// Which page is asked for of a list that is newest first unless `ordering` says otherwise. `is_id` says whether a text
    /// can be the id of one of its items.
    pub fn asked(&mut self, is_id: impl Fn(&str) -> bool) -> Asked {
        let oldest_first = self.ordering().unwrap_or(false);
        self.asked_in(oldest_first, is_id)
    }

    /// The same of a list that is oldest first.
    pub fn asked_of_history(&mut self, is_id: impl Fn(&str) -> bool) -> Asked {
        let oldest_first = self.ordering().unwrap_or(true);
        self.asked_in(oldest_first, is_id)
    }

    fn asked_in(&mut self, oldest_first: bool, is_id: impl Fn(&str) -> bool) -> Asked {
        let after = self.get("after").map(str::to_owned);
        if after.as_deref().is_some_and(|id| !is_id(id)) {
            self.fault("after", "Must be the id of an item of this list.");
        } else if after.is_some() && self.page > 1 {
            self.fault("after", "Send either page or after.");
        }
        Asked { number: self.page, after, oldest_first, size: self.page_size }
    }

    /// Whether the oldest come first, if that is said.
    fn ordering(&mut self) -> Option<bool> {
        match self.get("ordering") {
            None => None,
            Some("created_at") => Some(true),
            Some("-created_at") => Some(false),
            Some(_) => {
                self.fault("ordering", "Must be one of: created_at, -created_at.");
                None
            }
        }
    }

    /// The answer with a page that was asked for.
    pub fn answer<T>(&self, page: ListPage<T>) -> Page<T>
    where
        T: Type + ParseFromJSON + ToJSON + Send + Sync,
    {
        let ListPage { count, rows, next, previous } = page;
        let address = |neighbour| self.address(&neighbour);
        Page { count, next: next.map(address), previous: previous.map(address), results: rows }
    }

    /// A page of a short list that is read whole, in which only numbers lead to pages.
    ///
    /// # Errors
    /// `NOT_FOUND` past the end; page 1 of nothing is fine.
    pub fn page<T>(&self, count: u64, results: Vec<T>) -> Result<Page<T>, ApiError>
    where
        T: Type + ParseFromJSON + ToJSON + Send + Sync,
    {
        if self.page > 1 && self.offset() >= count {
            return Err(ApiError::not_found("page"));
        }
        let has_next = self.offset().saturating_add(self.page_size) < count;
        let address = |page| self.address(&Neighbour::Number(page));
        let next = has_next.then(|| address(self.page.saturating_add(1)));
        let previous = (self.page > 1).then(|| address(self.page.saturating_sub(1)));
        Ok(Page { count, next, previous, results })
    }

    /// The address of what comes behind an item, with every other parameter kept.
    pub fn next_after(&self, id: &str) -> String {
        self.address(&Neighbour::After(id.to_owned()))
    }

    fn address(&self, neighbour: &Neighbour) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        match neighbour {
            Neighbour::Number(page) => query.append_pair("page", &page.to_string()),
            Neighbour::After(id) => query.append_pair("after", id),
        };
        for (name, value) in self.parameters.iter().filter(|(name, _)| name != "page" && name != "after") {
            query.append_pair(name, value);
        }
        format!("{}?{}", self.path, query.finish())
    }

    fn positive(&mut self, name: &str) -> Option<u64> {
        let text = self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())?;
        // 2^53 pages are more than anybody has, and keep the offset a number that databases know.
        const MOST: u64 = 1 << 53;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if number > 0 => Some(number.min(MOST)),
            // Too large for any number of ours.
            Err(_) if is_number => Some(MOST),
            _ => {
                self.fault(name, "Must be a positive whole number.");
                None
            }
        }
    }
}

/// Whether a text can be the id of an item that has a number.
pub fn is_number(text: &str) -> bool {
    crate::operations::number(text).is_some_and(|number| number > 0)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
