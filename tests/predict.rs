//! `predict` reads what training reads, and gives back what it does not need.

use serde_json::Value;

use crate::support::{Place, rounding};

/// Saved weights of a quick training, and the place they are in.
fn trained() -> (Place, String) {
    let place = Place::new();
    let weights = place.trained("lora", &[]);
    (place, weights)
}

#[test]
fn every_format_that_trains_is_predicted_with_the_same_answers_and_ids_come_back() {
    let (place, weights) = trained();
    let files = [
        ("rows.jsonl", "{\"id\": 7, \"text\": \"good, fine\"}\n{\"id\": 8, \"text\": \"bad poor\"}\n".as_bytes().to_vec()),
        ("mark.jsonl", "\u{feff}{\"id\": 7, \"text\": \"good, fine\", \"label\": 1}\r\n{\"id\": 8, \"text\": \"bad poor\"}\r\n".as_bytes().to_vec()),
        ("rows.csv", b"id,text\n7,\"good, fine\"\n8,bad poor\n".to_vec()),
        ("semicolons.csv", b"sep=;\nid;text\n7;good, fine\n8;bad poor\n".to_vec()),
        ("rows.tsv", b"id\ttext\n7\t\"good, fine\"\n8\tbad poor\n".to_vec()),
        ("return.csv", b"id,text\r7,\"good, fine\"\r8,bad poor\r".to_vec()),
        ("lines.txt", b"good, fine\nbad poor\n".to_vec()),
        (
            "utf16.csv",
            [0xff, 0xfe]
                .into_iter()
                .chain("id,text\n7,\"good, fine\"\n8,bad poor\n".encode_utf16().flat_map(u16::to_le_bytes))
                .collect(),
        ),
    ];
    let mut first: Option<Vec<f64>> = None;
    for (name, contents) in files {
        let input = place.file(name, contents);
        let printed = place.ok(&format!(
            "predict --weights {weights} --input {}",
            input.display()
        ));
        let answers: Vec<Value> = printed
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(answers.len(), 2, "{name}");
        let logits: Vec<f64> = answers
            .iter()
            .flat_map(|a| a["logits"].as_array().unwrap())
            .map(|l| l.as_f64().unwrap())
            .collect();
        let first = first.get_or_insert_with(|| logits.clone());
        let apart = logits.iter().zip(&*first).map(|(a, b)| (a - b).abs());
        assert!(
            apart.fold(0.0, f64::max) <= rounding(),
            "{name}: {logits:?}, {first:?}"
        );
        if name != "lines.txt" {
            let ids: Vec<String> = answers
                .iter()
                .map(|a| a["id"].to_string().replace('"', ""))
                .collect();
            assert_eq!(ids, ["7", "8"], "{name}");
        }
        if name == "mark.jsonl" {
            assert_eq!(answers[0]["input_label"], 1);
            assert!(answers[0]["label"].is_string());
        }
    }
    let table = place.ok(&format!(
        "predict --weights {weights} --input rows.csv --format csv"
    ));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "id,label,probability");
    assert!(
        lines[1].starts_with("7,") && lines[2].starts_with("8,"),
        "{table}"
    );
    let other = place.file("other.csv", "key,first,second\na,good,bad\n");
    let printed = place.ok(&format!(
        "predict --weights {weights} --input {} --text-column first --pair-column second",
        other.display()
    ));
    assert!(printed.starts_with("{\"key\":\"a\""), "{printed}");
}

#[test]
fn answers_of_plain_lines_have_the_numbers_of_their_lines() {
    let (place, weights) = trained();
    place.file("gap.txt", "good\n\nbad\n\n");
    let asked = ["predict", "--weights", &weights, "--input", "gap.txt"];
    let printed = place.ok(&asked);
    let lines: Vec<Value> = printed
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["line"].clone())
        .collect();
    assert_eq!(lines, [1, 3]);
}

#[test]
fn an_input_that_is_no_rows_is_named_for_what_it_is() {
    let (place, weights) = trained();
    for (name, contents, says) in [
        ("list.jsonl", "[{\"text\": \"good\"}]\n", "a JSON list"),
        (
            "empty.jsonl",
            "{\"text\": \"good\"}\n{\"text\": \" \"}\n",
            "column 'text' is empty",
        ),
        (
            "list2.jsonl",
            "{\"text\": [\"good\"]}\n",
            "a list of words was given, and these weights read whole texts",
        ),
        ("missing.csv", "id,Text\n1,good\n", "did you mean 'Text'"),
        ("zip.csv", "PK\u{3}\u{4}", "zip archive"),
    ] {
        let input = place.file(name, contents);
        place.refused(
            &format!("predict --weights {weights} --input {}", input.display()),
            &[name, says],
        );
    }
    place.refused(
        &format!("predict --weights {weights} --input /dev/zero"),
        &["/dev/zero", "a device"],
    );
    place.refused(
        &format!("predict --weights {weights} --input out"),
        &["is a folder"],
    );
}
