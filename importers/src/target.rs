//! `KIND:ADDRESS`, as `--to` takes it.

use peerpath_paths::{Explained, Explanation, Severity};

use crate::{Error, IMPORTERS, Importer};

/// The text names no importer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no target")]
pub struct ParseTargetError {
    text: String,
}

impl Explained for ParseTargetError {
    fn explanation(&self) -> Explanation {
        let forms: Vec<_> = IMPORTERS.iter().map(|importer| importer.form()).collect();
        if forms.is_empty() {
            return Explanation::uncaused(
                "This build has no importer at all.",
                "Build with the feature `verbs-dlopen` or `verbs-link`.",
            );
        }
        Explanation::uncaused(
            "A target is written as its kind, a colon and an address.",
            format!("Use one of these forms: {}.", forms.join(", ")),
        )
    }

    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}

/// Splits `KIND:ADDRESS` into the importer of that kind and the address, which only the importer understands.
///
/// # Errors
/// There is no colon, or no importer of that kind.
pub fn parse_target(text: &str) -> Result<(&'static dyn Importer, &str), Error> {
    text.split_once(':')
        .and_then(|(kind, address)| {
            let importer = IMPORTERS.iter().find(|importer| importer.kind() == kind)?;
            Some((*importer, address))
        })
        .ok_or_else(|| Error::new(ParseTargetError { text: text.chars().take(64).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_kinds_are_targets() {
        for text in ["", ":", "verbs", "nonsense:rxe0", " verbs:rxe0", "verbs/rxe0", "VERBS:rxe0"] {
            let Err(error) = parse_target(text) else { panic!("{text:?} was taken for a target") };
            assert_eq!(error.severity(), Severity::BadInput);
            assert!(!error.explanation().remedy.is_empty());
        }
    }

    #[test]
    fn the_address_is_left_to_the_importer() {
        for importer in IMPORTERS {
            let text = format!("{}:a:b/c", importer.kind());
            let (found, address) = parse_target(&text).unwrap();
            assert_eq!((found.kind(), address), (importer.kind(), "a:b/c"));
        }
    }
}
