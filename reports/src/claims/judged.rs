//! A claim with what records say about it.

use serde::Serialize;

use super::{
    claim::{CLAIMS, Claim, Measure, Rule, parse},
    measured::{Measured, Measurement, Verdict, failed},
    of_comparison, of_study,
};
use crate::{Comparison, Result, studies::Study, table::markdown_text, words};

/// What records say about a claim.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Short name.
    pub id: String,
    /// The claim in words.
    pub claim: String,
    /// Who makes it.
    pub source: String,
    /// What the measurements together say.
    pub verdict: Verdict,
    /// The measurements.
    pub evidence: Vec<Measurement>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// Judges claims by what has been run.
pub fn judge(claims: &[Claim], comparisons: &[Comparison], studies: &[Study]) -> Vec<Judged> {
    let of = |claim| Judged::of(claim, comparisons, studies);
    claims.iter().map(of).collect()
}

/// Judges the claims that come with the program.
///
/// # Errors
/// If their YAML is not valid.
pub fn judge_all(comparisons: &[Comparison], studies: &[Study]) -> Result<Vec<Judged>> {
    Ok(judge(&parse(CLAIMS)?, comparisons, studies))
}

impl Judged {
    fn of(claim: &Claim, comparisons: &[Comparison], studies: &[Study]) -> Self {
        let mut missing = Vec::new();
        let mut measured: Vec<(&Rule, Measured)> = Vec::new();
        for rule in &claim.rules {
            let found = measure(&rule.measure, comparisons, studies);
            if found.is_empty() {
                let said = what_is_missing(&rule.measure);
                // Several rules may lack the same runs.
                if !missing.contains(&said) {
                    missing.push(said);
                }
            }
            let found = Measured::with_mean(found);
            measured.extend(found.into_iter().map(|m| (rule, m)));
        }
        let failed = failed(&measured);
        let tests = measured.iter().filter(|(_, m)| m.judged).count();
        let evidence = measured.into_iter().zip(failed);
        let evidence = evidence.map(|((rule, m), failed)| m.judged(rule, failed, tests));
        let evidence: Vec<Measurement> = evidence.collect();
        let any = |v| evidence.iter().any(|e| e.judged && e.verdict == v);
        let verdict = if any(Verdict::DoesNotHold) {
            Verdict::DoesNotHold
        } else if missing.is_empty() && !any(Verdict::Undecided) {
            Verdict::Holds
        } else {
            Verdict::Undecided
        };
        Self {
            id: claim.id.clone(),
            claim: claim.claim.clone(),
            source: claim.source.clone(),
            verdict,
            evidence,
            missing,
        }
    }
}

/// What is measured wherever it can be.
fn measure(measure: &Measure, comparisons: &[Comparison], studies: &[Study]) -> Vec<Measured> {
    if let Measure::Checks {
        method,
        checks,
        datasets,
    } = measure
    {
        // Runs of studies count too.
        let records = comparisons.iter().flat_map(|c| &c.records);
        let records = records.chain(studies.iter().flat_map(|s| &s.records));
        return of_comparison::checks(records, method, checks, *datasets);
    }
    let Some(name) = measure.study() else {
        let all = comparisons.iter();
        return all
            .filter_map(|c| of_comparison::measure(c, measure))
            .collect();
    };
    let named = studies.iter().filter(|s| s.name == name);
    named
        .filter_map(|s| of_study::measure(s, measure))
        .collect()
}

fn what_is_missing(measure: &Measure) -> String {
    match measure {
        Measure::Ratio { of, over, .. } if over == "backbone" => {
            format!("no valid run of {of} with its defaults; run `peftbench compare DATASET`")
        }
        Measure::Ratio {
            of, over: other, ..
        }
        | Measure::Difference { of, minus: other } => format!(
            "no comparison has valid runs of {of} and {other} with their defaults; run `peftbench compare DATASET`"
        ),
        Measure::Checks {
            method, datasets, ..
        } => format!(
            "{method} has no valid runs on {datasets} data sets over one backbone; run `peftbench compare` on another data set"
        ),
        _ => {
            let study = measure.study().unwrap_or_default();
            format!(
                "the study {study} lacks runs for it; run `peftbench sweep DATASET --study {study} --seeds 3`"
            )
        }
    }
}

/// A Markdown section of judged claims.
pub fn markdown(claims: &[Judged]) -> String {
    let mut text = format!("## Claims, tested here\n\n{}\n\n", words::UNDECIDED_CLAIM);
    for claim in claims {
        let [said, source] = [&claim.claim, &claim.source].map(|text| markdown_text(text));
        text += &format!("- **{}**: {said} ({source})\n", claim.verdict.words());
        for e in &claim.evidence {
            let verdict = match e.judged {
                true => e.verdict.words(),
                false => "of this",
            };
            let [place, said] = [&e.place, &e.text].map(|text| markdown_text(text));
            text += &format!("  - {verdict}: {place}: {said}\n");
        }
        for missing in &claim.missing {
            text += &format!("  - {missing}\n");
        }
    }
    text
}
