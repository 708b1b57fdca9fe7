//! Suggestions for misspelt names.

/// The candidate that is most similar to `text`, if any is. The measure is that of clap, with a higher threshold: clap would
/// suggest `export` for `teleport`.
pub(crate) fn closest<T: AsRef<str>>(text: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    let scored = candidates.into_iter().map(|candidate| (strsim::jaro(text, candidate.as_ref()), candidate));
    let best = scored.filter(|(score, _)| *score > 0.85).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_most_similar_name() {
        assert_eq!(closest("mlx5_O", ["rxe0", "mlx5_0"]), Some("mlx5_0"));
        assert_eq!(closest("rxe_0", ["mlx5_0", "rxe0"]), Some("rxe0"));
        assert_eq!(closest("teleport", ["export", "register"]), None);
        assert_eq!(closest("nothing", ["mlx5_0", "rxe0"]), None);
        assert_eq!(closest("", [""; 0]), None);
    }
}
