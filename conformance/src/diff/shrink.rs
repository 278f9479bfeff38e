//! Makes a script that shows a difference short: steps, then words, are left out as long as something still differs.

use super::known::Difference;
use super::{Differ, Step, from};

/// How often a shorter script is tried.
const TRIES_MAX: usize = 400;

/// How often one may still try, and what has to show: another difference is not what is looked for.
struct Tries<'d> {
    left: usize,
    difference: &'d Difference,
}

impl Differ<'_> {
    /// The shortest script found; it differs in its last step.
    pub(super) fn shrink(&self, mut script: Vec<Step>, difference: &Difference) -> Result<Vec<Step>, String> {
        let mut tries = Tries { left: TRIES_MAX, difference };
        loop {
            let before = size(&script);
            self.leave_out_steps(&mut script, &mut tries)?;
            self.leave_out_words(&mut script, &mut tries)?;
            if size(&script) == before || tries.left == 0 {
                return Ok(script);
            }
        }
    }

    /// Takes the shorter script instead if it differs, twice in a row.
    fn attempt(
        &self,
        script: &mut Vec<Step>,
        shorter: Vec<Step>,
        tries: &mut Tries<'_>,
    ) -> Result<bool, String> {
        if tries.left == 0 {
            return Ok(false);
        }
        tries.left -= 1;
        let mut shorter = shorter;
        for pause in [self.pause, self.pause * 4] {
            let played = self.play(pause, from(&shorter))?;
            let same = |found: &Difference| played.declared.is_none() && found.is_part_of(tries.difference);
            if !played.difference.as_ref().is_some_and(same) {
                return Ok(false);
            }
            shorter = played.done;
        }
        *script = shorter;
        Ok(true)
    }

    /// Halves, quarters and so on down to single steps.
    fn leave_out_steps(&self, script: &mut Vec<Step>, tries: &mut Tries<'_>) -> Result<(), String> {
        let mut length = script.len() / 2;
        while length > 0 {
            let mut end = script.len();
            while end > 0 {
                let start = end.saturating_sub(length);
                let mut shorter = script.clone();
                shorter.drain(start..end);
                self.attempt(script, shorter, tries)?;
                end = start.min(script.len());
            }
            length /= 2;
        }
        Ok(())
    }

    fn leave_out_words(&self, script: &mut Vec<Step>, tries: &mut Tries<'_>) -> Result<(), String> {
        let mut at = 0;
        while at < script.len() {
            for line in 0..script[at].len() {
                let mut position = 0;
                while let Some(simpler) =
                    script.get(at).and_then(|step| without_word(step.get(line)?, position))
                {
                    let mut shorter = script.clone();
                    shorter[at][line] = simpler;
                    if !self.attempt(script, shorter, tries)? {
                        position += 1;
                    }
                }
            }
            at += 1;
        }
        Ok(())
    }
}

fn size(script: &[Step]) -> usize {
    script.concat().iter().map(|line| line.split(' ').count()).sum()
}

/// The line without one of the words that may be missing; in tables each entry is a word. A table left empty goes too.
fn without_word(line: &str, position: usize) -> Option<String> {
    let verb = line.split(' ').take(2).map(|word| word.len() + 1).sum::<usize>();
    let words = words(line).into_iter().filter(|(start, _)| *start >= verb);
    let (start, end) = words.into_iter().nth(position)?;
    let shorter = format!("{}{}", &line[..start], line[end..].trim_start());
    let shorter = shorter.replace(" }", "}").replace(" arguments={}", "").replace("headers={}", "");
    Some(shorter.replace("{ ", "{").replace(" }", "}").replace(" {}", "").trim_end().to_string())
}

/// Where the words of a line begin and end.
fn words(line: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, letter) in line.char_indices().chain([(line.len(), ' ')]) {
        match letter {
            '"' => quoted = !quoted,
            ' ' | '{' | '}' if !quoted => {
                if at > start && letter != '{' {
                    words.push((start, at));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_entries_of_tables_are_left_out_one_by_one() {
        let line = "1> queue.declare queue=$q durable arguments={a=i:1 b=\"x y\"}";
        let all: Vec<String> = (0..).map_while(|position| without_word(line, position)).collect();
        assert_eq!(
            all,
            [
                "1> queue.declare durable arguments={a=i:1 b=\"x y\"}",
                "1> queue.declare queue=$q arguments={a=i:1 b=\"x y\"}",
                "1> queue.declare queue=$q durable arguments={b=\"x y\"}",
                "1> queue.declare queue=$q durable arguments={a=i:1}",
            ]
        );
        assert_eq!(without_word("1> publish {delivery_mode=2} \"m\"", 0).unwrap(), "1> publish \"m\"");
    }
}
