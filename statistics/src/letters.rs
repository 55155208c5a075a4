//! Letters for a table: who shares one has not been told apart.

/// The letters of each of `n` methods, so that two methods share a letter exactly if
/// they do not stand in `apart` (compact letter display, Piepho 2004: insert and absorb). Method 0 has
/// the letter `a` if the methods are given best first. `apart` lists the pairs that may share no letter.
pub fn letters(n: usize, apart: &[(usize, usize)]) -> Vec<String> {
    let mut groups: Vec<Vec<bool>> = vec![vec![true; n]];
    for &(i, j) in apart {
        let mut next: Vec<Vec<bool>> = Vec::new();
        for group in groups {
            if group[i] && group[j] {
                for out in [i, j] {
                    let mut part = group.clone();
                    part[out] = false;
                    next.push(part);
                }
            } else {
                next.push(group);
            }
        }
        // Absorb: a group inside another says nothing of its own. Of equal ones the first stays.
        let inside = |a: &[bool], b: &[bool]| a.iter().zip(b).all(|(&a, &b)| !a || b);
        groups = (0..next.len())
            .filter(|&a| {
                !(0..next.len()).any(|b| {
                    b != a && inside(&next[a], &next[b]) && (b < a || !inside(&next[b], &next[a]))
                })
            })
            .map(|a| next[a].clone())
            .collect();
    }
    let members = |g: &Vec<bool>| (0..n).filter(|&i| g[i]).collect::<Vec<_>>();
    groups.sort_by_key(members);
    let of = |i: usize| {
        let own = groups.iter().enumerate().filter(|(_, group)| group[i]);
        own.map(|(k, _)| letter(k)).collect()
    };
    (0..n).map(of).collect()
}

/// a … z, then a1 … z1, a2 …
fn letter(k: usize) -> String {
    let base = char::from(b'a' + (k % 26) as u8);
    if k < 26 {
        base.to_string()
    } else {
        format!("{base}{}", k / 26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_share_a_letter_exactly_if_they_may() {
        assert_eq!(letters(3, &[]), ["a", "a", "a"]);
        assert_eq!(letters(3, &[(0, 1), (0, 2), (1, 2)]), ["a", "b", "c"]);
        // 0 and 2 differ, 1 is near both: not a false order.
        assert_eq!(letters(3, &[(0, 2)]), ["a", "ab", "b"]);
        assert!(letters(0, &[]).is_empty());
        // Every graph on five methods.
        let pairs: Vec<(usize, usize)> = (0..5)
            .flat_map(|i| (i + 1..5).map(move |j| (i, j)))
            .collect();
        for set in 0..1u32 << pairs.len() {
            let differ: Vec<_> = pairs
                .iter()
                .enumerate()
                .filter(|(k, _)| set >> k & 1 == 1)
                .map(|(_, &p)| p)
                .collect();
            let letters = super::letters(5, &differ);
            for &(i, j) in &pairs {
                let share = letters[i].chars().any(|c| letters[j].contains(c));
                assert_eq!(share, !differ.contains(&(i, j)), "{differ:?} {letters:?}");
            }
        }
    }
}
