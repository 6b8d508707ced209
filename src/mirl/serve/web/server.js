/** The HTTP API, where there is one. */
import { Refused } from "./photo.js";

const TRIES = 6; // when the server is busy
const HAZE = "Mirl-Haze"; // header of an answer

/** @typedef {{name: string, parameters: number, nonzero: number, density: number, bytes: number, tasks: string[]}} TicketFacts */

/** What the page's head says: where tickets are listed, and where the server restores ("" without a server). */
export function addresses(root = document) {
  const told = (name) => root.querySelector(`meta[name="${name}"]`)?.content ?? "";
  return { tickets: told("mirl-tickets"), restore: told("mirl-restore") };
}

/**
 * List the tickets on offer.
 * @param {string} address
 * @returns {Promise<{default: string, tickets: (TicketFacts & {url: string})[]}>}
 */
export async function listTickets(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  const listing = await response.json(), base = new URL(address, location.href);
  const tickets = listing.tickets.map((ticket) => ({ ...ticket, url: new URL(`tickets/${ticket.name}.mirl`, base).href }));
  if (!tickets.length) throw new Error("no ticket is offered");
  return { default: listing.default, tickets };
}

/**
 * Have the server restore a file; the answer is a file with its metadata, of the same format where no other is asked for,
 * and how much haze the server saw, null where it does not say.
 * @param {string} address
 * @param {Blob} file
 * @param {{ticket: string, format?: string, quality?: number} & import("./tone.js").ToneOptions} wish
 * @param {AbortSignal} [signal]
 * @returns {Promise<{file: Blob, haze: number|null}>}
 */
export async function restoreOnServer(address, file, wish, signal) {
  const given = Object.entries(wish).filter(([, value]) => value !== undefined), asked = new URLSearchParams(given);
  for (let left = TRIES; ; left--) {
    let response;
    try {
      response = await fetch(`${address}?${asked}`, { method: "POST", body: file, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refused("The server does not answer: check the connection, then try again.");
    }
    if (response.ok) {
      const haze = response.headers.get(HAZE);
      return { file: await response.blob(), haze: haze === null ? null : Number(haze) };
    }
    if (response.status === 503 && left > 1) {
      await pause(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, 10), signal);
      continue;
    }
    throw new Refused(await reason(response));
  }
}

async function reason(response) {
  try {
    const { message } = (await response.json()).error;
    return message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
  } catch {
    return `The server refused the photograph (${response.status}).`;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
