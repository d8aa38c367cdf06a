// Talking to a model over its API: what is asked for, the answer as it comes, and the same request for a terminal or a program.

export const TOLD = 5;  // of the likeliest tokens, with each

export function address(model, talk, draft = "") {
  const guessed = draft ? `?draft=${encodeURIComponent(draft)}` : "";
  return `${location.origin}/model/${model.split("/").map(encodeURIComponent).join("/")}/v1/${talk ? "chat/completions" : "completions"}${guessed}`;
}

// Each token of an answer as it comes: {text, p, likely: [[text, p], …]}, and in the end what it took; what could not be done is thrown.
export async function* stream(model, talk, body, signal, draft = "") {
  const told = talk ? { logprobs: true, top_logprobs: TOLD } : { logprobs: TOLD };
  const response = await fetch(address(model, talk, draft), {
    method: "POST", headers: { "Content-Type": "application/json" }, signal,
    body: JSON.stringify({ ...body, ...told, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(), letters = new TextDecoder();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ") || event === "data: [DONE]") continue;
      const said = JSON.parse(event.slice(6)), choice = said.choices?.[0];
      if (said.error) throw new Error(said.error.message);
      if (said.usage) yield { text: "", tokens: [], used: said.usage };
      if (!choice) continue;
      const tokens = (talk ? chatTokens : textTokens)(choice.logprobs).map(({ bytes, ...one }) => ({ ...one, text: letters.decode(bytes, { stream: true }) }));
      yield { text: (talk ? choice.delta.content : choice.text) ?? "", tokens, ended: choice.finish_reason };
    }
  }
}

function chatTokens(logprobs) {
  return (logprobs?.content ?? []).map((one) => ({
    bytes: Uint8Array.from(one.bytes), p: Math.exp(one.logprob), likely: one.top_logprobs.map((other) => [other.token, Math.exp(other.logprob)]),
  }));
}

function textTokens(logprobs) {
  return (logprobs?.tokens ?? []).map((name, i) => ({
    bytes: bytesOf(name), p: Math.exp(logprobs.token_logprobs[i]),
    likely: Object.entries(logprobs.top_logprobs[i]).map(([other, logprob]) => [other, Math.exp(logprob)]).sort((a, b) => b[1] - a[1]),
  }));
}

function bytesOf(name) {  // a token that is part of a character is named by its bytes
  return name.startsWith("bytes:\\x") ? Uint8Array.from(name.slice(6).match(/[0-9a-f]{2}/g), (two) => parseInt(two, 16)) : new TextEncoder().encode(name);
}

export function asCurl(model, talk, body, keyed, draft = "") {
  const quoted = JSON.stringify(body, null, 1).replaceAll("'", "'\\''");
  const key = keyed ? " \\\n  -H 'Authorization: Bearer KEY'" : "";
  return `curl '${address(model, talk, draft)}' \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'`;
}

const KNOWN = ["model", "messages", "prompt", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "stop", "max_tokens", "seed"];
export function asPython(model, talk, body, keyed, draft = "") {  // what the client knows no names for goes beside
  const own = Object.entries(body).filter(([name]) => KNOWN.includes(name)), more = Object.entries(body).filter(([name]) => !KNOWN.includes(name));
  const lines = own.map(([name, value]) => `    ${name}=${python(value)},`);
  if (more.length) lines.push(`    extra_body=${python(Object.fromEntries(more))},`);
  const base = address(model, talk).replace(/\/(chat\/)?completions$/, "");
  return `from openai import OpenAI\n\nclient = OpenAI(base_url=${python(base)}, api_key=${python(keyed ? "KEY" : "none")}${draft ? `, default_query=${python({ draft })}` : ""})\n`
    + `answer = client.${talk ? "chat.completions" : "completions"}.create(\n${lines.join("\n")}\n)\nprint(answer.choices[0].${talk ? "message.content" : "text"})`;
}

function python(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${python(name)}: ${python(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}
