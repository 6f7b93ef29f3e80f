// How scripts write numbers and moments: as the server does.

const MONTHS = { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const FORMS = {
  time: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
  minute: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  date: MONTHS,
  day: { day: "2-digit", month: "short" },
  full: { ...MONTHS, year: "numeric", second: "2-digit", timeZoneName: "short" },
};

/** A value as the pages write it. `form`: n, ms, share, usd. */
export function write(value, form) {
  if (value === null || value === undefined || Number.isNaN(value)) return "no data";
  if (form === "ms") return value < 10 ? `${value.toFixed(1)} ms` : value < 999.5 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(2)} s`;
  if (form === "share") return value === 0 ? "0 %" : `${(value * 100).toFixed(value < 0.01 ? 2 : 1)} %`;
  if (form === "usd") return value === 0 ? "0 USD" : value < 0.001 ? `${(value * 1e6).toPrecision(3)} µUSD` : `${value.toPrecision(3)} USD`;
  return Math.round(value).toLocaleString("en");
}

/** A moment in the reader's zone. */
export function moment(date, form) {
  return new Intl.DateTimeFormat("en-GB", FORMS[form] ?? FORMS.full).format(date);
}
