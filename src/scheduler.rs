//! What a cluster's scheduler tells the tasks that it starts, in their environment.

/// The task's index from what schedulers set: Slurm's arrays, Kubernetes' indexed jobs, HyperQueue.
///
/// # Errors
/// The variable whose value is no number.
pub fn task_index(variable: impl Fn(&str) -> Option<String>) -> Result<Option<usize>, String> {
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "HQ_TASK_ID"] {
        if let Some(text) = variable(name) {
            let index = text
                .parse()
                .map_err(|_| format!("{name}={text}: a number is needed"));
            return index.map(Some);
        }
    }
    Ok(None)
}

/// What the scheduler calls the task that this process is part of: `slurm 4711_3`.
pub fn task_name(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let pair = |name: &str, job: &str, task: &str| {
        Some(format!("{name} {}_{}", variable(job)?, variable(task)?))
    };
    pair("slurm", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
        .or_else(|| Some(format!("slurm {}", variable("SLURM_JOB_ID")?)))
        .or_else(|| pair("hyperqueue", "HQ_JOB_ID", "HQ_TASK_ID"))
        .or_else(|| Some(format!("kubernetes {}", variable("JOB_COMPLETION_INDEX")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_and_the_name_come_from_the_scheduler_that_there_is() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            move |name: &str| Some(set.iter().find(|(n, _)| n == name)?.1.clone())
        };
        let slurm = [
            ("SLURM_JOB_ID", "9"),
            ("SLURM_ARRAY_JOB_ID", "8"),
            ("SLURM_ARRAY_TASK_ID", "7"),
        ];
        for (set, index, name) in [
            (&[][..], None, None),
            (&slurm, Some(7), Some("slurm 8_7")),
            (&slurm[..1], None, Some("slurm 9")),
            (
                &[("JOB_COMPLETION_INDEX", "3")],
                Some(3),
                Some("kubernetes 3"),
            ),
            (
                &[("HQ_TASK_ID", "4"), ("HQ_JOB_ID", "1")],
                Some(4),
                Some("hyperqueue 1_4"),
            ),
        ] {
            assert_eq!(task_index(with(set)), Ok(index));
            assert_eq!(task_name(with(set)).as_deref(), name);
        }
        assert!(
            task_index(with(&[("HQ_TASK_ID", "x")])).is_err_and(|e| e.contains("HQ_TASK_ID=x"))
        );
    }
}
