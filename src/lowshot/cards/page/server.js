// What the page asks of its server.

/** A refusal in the server's own words, or that it cannot be reached (status 0). */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const state = () => asked("v1/cards");
export const decide = (card, choice) => asked("v1/decisions", { card, choice });
export const addClass = (name) => asked("v1/classes", { name });
export const nextRound = (after) => asked("v1/rounds", { after });

async function asked(path, body) {
  let response;
  try {
    const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    response = await fetch(path, { cache: "no-store", ...sent });
  } catch {
    throw new ServerError("The command does not answer, and has not got what was answered last. Start it again, as it was started: all answers before are there.", 0);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new ServerError(answer.error?.message ?? `The server answered with status ${response.status}.`, response.status);
}
