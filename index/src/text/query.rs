//! From a question to a tantivy query. User text only ever becomes terms.

use tantivy::Term;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;

use super::schema::Fields;
use super::tokens::counted_terms;
use super::wordy::Weighted;
use crate::FactFilter;

/// More different terms than this add time, not quality; questions have about ten.
const DISTINCT_TERMS_MAX: usize = 64;
/// Terms looked at, repeats included.
const TERMS_MAX: usize = 1024;

/// Documents of the tenants that pass the filter and hold any of the words in the fields that are
/// `wordy`; `None` when `text` has no word to look for, or nothing is wordy. A word that the text repeats counts as often.
pub(super) fn any_word(
    fields: &Fields,
    wordy: &[Weighted],
    text: &str,
    tenants: &[&str],
    facts: &FactFilter,
) -> Option<Box<dyn Query>> {
    let mut words: Vec<Box<dyn Query>> = Vec::new();
    for (term, count) in counted_terms(text, DISTINCT_TERMS_MAX, TERMS_MAX) {
        for &(field, weight) in wordy {
            let term = Term::from_field_text(field, &term);
            let term = TermQuery::new(term, IndexRecordOption::WithFreqs);
            words.push(Box::new(BoostQuery::new(Box::new(term), weight * count as f32)));
        }
    }
    if words.is_empty() {
        return None;
    }
    let mut clauses = conditions(fields, tenants, facts);
    clauses.push((Occur::Must, Box::new(BooleanQuery::union(words))));
    Some(Box::new(BooleanQuery::new(clauses)))
}

/// Documents of the tenants that pass the filter.
pub(super) fn condition(fields: &Fields, tenants: &[&str], facts: &FactFilter) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(conditions(fields, tenants, facts)))
}

/// Conditions restrict and add nothing to a score. No tenant and an empty group match nothing.
fn conditions(
    fields: &Fields,
    tenants: &[&str],
    facts: &FactFilter,
) -> Vec<(Occur, Box<dyn Query>)> {
    let tenants =
        tenants.iter().map(|tenant| Term::from_field_text(fields.tenant, tenant)).collect();
    let fact = |&fact: &u64| Term::from_field_u64(fields.facts, fact);
    let all = facts.all.iter().map(|f| vec![fact(f)]);
    let any = facts.any.iter().map(|group| group.iter().map(fact).collect());
    std::iter::once(tenants)
        .chain(all)
        .chain(any)
        .map(|terms| {
            let one_of = ConstScoreQuery::new(Box::new(one_of(terms)), 0.0);
            (Occur::Must, Box::new(one_of) as Box<dyn Query>)
        })
        .collect()
}

fn one_of(terms: Vec<Term>) -> BooleanQuery {
    let query = |term| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Query>;
    BooleanQuery::union(terms.into_iter().map(query).collect())
}
