//! Lists the documented meanings of one errno, and those of all errnos.

use super::{Facts, Step, documented, rows};
use crate::Explanation;

/// A meaning of an errno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrnoMeaning {
    /// The step that returned the errno; `None` for every step without a documented meaning of its own for this errno.
    pub step: Option<Step>,
    /// Cause, reason and remedy. The severity is `None` if it depends on the step.
    pub explanation: Explanation,
}

/// The documented meanings of an errno: one per step with a meaning of its own, and one for all other steps. Omits steps that do
/// not occur for the kind of memory in `facts`.
pub fn errno_meanings(errno: i32, facts: &Facts) -> Vec<ErrnoMeaning> {
    let at_step = |step| Some(ErrnoMeaning { step: Some(step), explanation: documented(step, errno, facts)? });
    let elsewhere = rows::EVERYWHERE.iter().filter(|row| row.errno == errno);
    Step::all()
        .filter(|step| !step.is_foreign_to(facts.source))
        .filter_map(at_step)
        .chain(elsewhere.map(|row| ErrnoMeaning { step: None, explanation: common(row) }))
        .collect()
}

/// A documented meaning of an errno, as one row of the tables in `docs/explain.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentedErrno {
    /// The errno, a positive number.
    pub errno: i32,
    /// The step that returned the errno; `None` for every step without a documented meaning of its own for this errno.
    pub step: Option<Step>,
    /// Whether the meaning applies only under a condition on the [`Facts`], e.g. if the importer's DMA mask excludes the BAR.
    pub conditional: bool,
    /// Cause, severity, reason and remedy.
    pub explanation: Explanation,
}

/// Every documented meaning of every errno. Of several meanings of an errno at a step, the first whose condition is met applies.
pub fn documented_errnos() -> impl Iterator<Item = DocumentedErrno> {
    let at_a_step = rows::ROWS.iter().map(|row| DocumentedErrno {
        errno: row.errno,
        step: Some(row.step),
        conditional: !(row.when)(&Facts::default()),
        explanation: row.explanation(),
    });
    let elsewhere = rows::EVERYWHERE.iter().map(|row| DocumentedErrno {
        errno: row.errno,
        step: None,
        conditional: false,
        explanation: common(row),
    });
    at_a_step.chain(elsewhere)
}

fn common(row: &rows::Common) -> Explanation {
    Explanation { cause: row.cause, severity: None, why: row.why.into(), remedy: row.remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, explain};

    #[test]
    fn lists_a_meaning_per_step_that_documents_the_errno() {
        let meanings = errno_meanings(22, &Facts::default());
        for meaning in &meanings {
            assert_eq!(meaning.explanation, explain(meaning.step.unwrap(), 22, &Facts::default()));
        }
        let at = |step| meanings.iter().find(|meaning| meaning.step == Some(step)).and_then(|m| m.explanation.cause);
        assert_eq!(
            at(Step::RegisterDmaBuf),
            None,
            "EINVAL means topology only if the result of the P2PDMA check is known"
        );
        assert_eq!(at(Step::Export), Some(Cause::BarNotExportable));
        assert_eq!(at(Step::Unmap), None);
    }

    #[test]
    fn lists_the_meaning_at_every_other_step_last() {
        let meanings = errno_meanings(1, &Facts::default());
        assert_eq!(meanings.last().and_then(|meaning| meaning.step), None);
        assert!(meanings.len() > 1);
        assert!(errno_meanings(18, &Facts::default()).is_empty());
    }

    #[test]
    fn the_rows_of_the_documentation_are_those_of_the_tables() {
        assert_eq!(documented_errnos().count(), rows::ROWS.len() + rows::EVERYWHERE.len());
    }
}
