// Which key is which answer.

const OF_CLASSES = [..."123456789abcdefghijlmnopqrtvwyz"]; // without those of the other answers

/** The key of each class, in their order; null where there are no more keys. */
export const keyOfClass = (place) => OF_CLASSES[place] ?? null;

/** The answers of a card beside its classes: `{key, label, choice}`. */
export function answersOf(card) {
  const skip = { key: "s", label: "Skip", choice: { skip: true } };
  if (card.kind === "copies") {
    return [
      { key: "1", label: "Keep the first", choice: { left_out: [1] } },
      { key: "2", label: "Keep the second", choice: { left_out: [0] } },
      { key: "k", label: "Keep both", choice: { left_out: [] } },
      { key: "x", label: "Leave both out", choice: { left_out: [0, 1] } },
      skip,
    ];
  }
  const guess = card.looks_like
    ? [{ key: "Enter", label: `It is ${card.looks_like}`, choice: { label: card.looks_like } }]
    : [];
  if (card.kind === "suggestion") return [...guess, skip];
  return [
    ...guess,
    { key: "k", label: `It is ${card.labels[0]}`, choice: { label: card.labels[0] } },
    { key: "x", label: "Leave it out", choice: { left_out: [0] } },
    skip,
  ];
}

/** Whether two choices are the same. */
export const sameChoice = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** What a choice says, in words; null where nothing was chosen. */
export function choiceInWords(card, choice) {
  if ("label" in choice) return choice.label;
  const answer = answersOf(card).find((each) => sameChoice(each.choice, choice));
  return answer ? answer.label : null;
}
