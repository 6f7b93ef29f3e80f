-- One decision over all the counters of a request, atomically. Times are the server's: hosts need not agree on them.
--
-- KEYS[1]      the worker's lease: a hash with `seq`, its last settlement; it expires when the worker is gone
-- KEYS[2…]     the counters: hashes with
--                r, t         theoretical arrival times of requests and tokens, seconds since `epoch`
--                s            seconds per token
--                e0…2 u0…2 l0…2   of hour, day, month or trace: end, USD spent, thresholds announced
--                w:WORKER     what this worker holds: "live tokens USD"
-- ARGV[1]      "take", "settle" or "leave";  ARGV[2] the worker's id; ARGV[3] seq
-- ARGV[4]      JSON: see valkey.py
--
-- Every counter is admitted or none; a refused request uses nothing up.

local op, me, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local ask = cjson.decode(ARGV[4])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) - ask.epoch + tonumber(clock[2]) / 1e6
local lease = KEYS[1]
local prefix = ask.prefix
local alive = {}
alive[me] = true

local function lives(worker)
  if alive[worker] == nil then
    alive[worker] = redis.call('EXISTS', prefix .. 'worker:' .. worker) == 1
  end
  return alive[worker]
end

local function number(x)
  return string.format('%.17g', x)
end

-- When the hour, day or month of `at` ends; days from civil: H. Hinnant, "chrono-compatible low-level date algorithms".
local function days(y, m)
  if m <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local mp = (m + 9) % 12
  local doy = math.floor((153 * mp + 2) / 5)
  return era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
end

local function month_end(at)
  local z = math.floor((at + ask.epoch) / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  if m == 12 then y, m = y + 1, 1 else m = m + 1 end
  return days(y, m) * 86400 - ask.epoch
end

local function period_end(period)
  if period == 'hour' then return (math.floor(now / 3600) + 1) * 3600 end
  if period == 'day' then return (math.floor(now / 86400) + 1) * 86400 end
  if period == 'trace' then return now + ask.trace_s end
  return month_end(now)
end

-- A counter as it stands; what workers held that are gone is given back.
local function read(key)
  local c = {r = 0, t = 0, s = 0, e = {0, 0, 0}, u = {0, 0, 0}, l = {0, 0, 0}, live = 0, held = 0, mine = {0, 0, 0}}
  local flat = redis.call('HGETALL', key)
  local gone = {}
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    if string.sub(field, 1, 2) == 'w:' then
      local live, tokens, usd = string.match(value, '^(%S+) (%S+) (%S+)$')
      local worker = string.sub(field, 3)
      if worker == me then
        c.mine = {tonumber(live), tonumber(tokens), tonumber(usd)}
      end
      if lives(worker) then
        c.live, c.held = c.live + tonumber(live), c.held + tonumber(usd)
      else
        gone[#gone + 1] = {field, tonumber(tokens)}
      end
    elseif field == 'r' or field == 't' or field == 's' then
      c[field] = tonumber(value)
    else
      c[string.sub(field, 1, 1)][tonumber(string.sub(field, 2)) + 1] = tonumber(value)
    end
  end
  for _, one in ipairs(gone) do
    c.t = c.t - one[2] * c.s
    redis.call('HDEL', key, one[1])
    redis.call('HSET', key, 't', number(c.t))
  end
  return c
end

local function spent(c, purse)
  if now < c.e[purse.place + 1] then return c.u[purse.place + 1] end
  return 0
end

-- What refuses the request: {what, wait or -1, never, period, left}; nil where it is admitted.
local function refusal(c, b)
  local late = math.max(c.r, now) + b.request_s - now - b.request_burst_s
  if late > 0 then return {'requests', number(late), 0, '', '0'} end
  local seconds = ask.tokens * b.token_s
  late = math.max(c.t, now) + seconds - now - b.token_burst_s
  if late > 0 then
    local never = seconds > b.token_burst_s
    return {'tokens', number(never and -1 or late), never and 1 or 0, '', '0'}
  end
  if c.live >= b.concurrency then return {'concurrency', '-1', 0, '', '0'} end
  for _, p in ipairs(b.purses) do
    local gone = spent(c, p)
    local used = gone + c.held
    if used + ask.usd > p.usd + ask.slack or used >= p.usd then
      local never = ask.usd > p.usd + ask.slack or p.usd <= 0
      local wait = -1
      if gone + ask.usd > p.usd + ask.slack or gone >= p.usd then
        never = never or p.period == 'trace'
        if not never then wait = c.e[p.place + 1] - now end
      end
      return {'spend', number(wait), never and 1 or 0, p.period, number(math.max(0, p.usd - used))}
    end
  end
  return nil
end

local function hold(key, live, tokens, usd)
  if live <= 0 then
    redis.call('HDEL', key, 'w:' .. me)
  else
    redis.call('HSET', key, 'w:' .. me, number(live) .. ' ' .. number(tokens) .. ' ' .. number(usd))
  end
end

-- Kept as long as it says anything; what is held is renewed by whoever settles.
local function keep(key, c)
  local last = math.max(c.r, c.t, c.e[1], c.e[2], c.e[3], now)
  redis.call('EXPIRE', key, math.ceil(last - now) + ask.keep_s)
end

local function count(key, c, b)
  c.r = math.max(c.r, now) + b.request_s
  c.t = math.max(c.t, now) + ask.tokens * b.token_s
  redis.call('HSET', key, 'r', number(c.r), 't', number(c.t), 's', number(b.token_s))
  hold(key, c.mine[1] + 1, c.mine[2] + ask.tokens, c.mine[3] + ask.usd)
  keep(key, c)
end

local function charge(key, c, p, i, out)
  local place = p.place + 1
  if now >= c.e[place] then c.e[place], c.u[place], c.l[place] = period_end(p.period), 0, 0 end
  if p.period == 'trace' then c.e[place] = now + ask.trace_s end
  c.u[place] = c.u[place] + ask.used_usd
  local level = c.l[place]
  while level < #p.marks and c.u[place] >= p.marks[level + 1] do level = level + 1 end
  if level > c.l[place] then out[#out + 1] = {i, p.place, level, number(c.u[place])} end
  c.l[place] = level
  local n = tostring(p.place)
  redis.call('HSET', key, 'e' .. n, number(c.e[place]), 'u' .. n, number(c.u[place]), 'l' .. n, number(level))
end

local function settle(key, c, b, i, out)
  for _, p in ipairs(b.purses) do charge(key, c, p, i, out) end
  if not ask.held then return keep(key, c) end
  local more = ask.used_tokens - ask.tokens
  if c.mine[1] <= 0 then more = ask.used_tokens end  -- given back already, since this worker was silent for too long
  if more > 0 then c.t = math.max(c.t, now) end
  redis.call('HSET', key, 't', number(c.t + more * b.token_s))
  if c.mine[1] > 0 then hold(key, c.mine[1] - 1, c.mine[2] - ask.tokens, c.mine[3] - ask.usd) end
  c.t = c.t + more * b.token_s
  keep(key, c)
end

redis.call('HSETNX', lease, 'seq', 0)
redis.call('EXPIRE', lease, ask.lease_s)

if op == 'settle' then
  if seq <= tonumber(redis.call('HGET', lease, 'seq')) then return {} end  -- sent twice: counted once
  redis.call('HSET', lease, 'seq', seq)
  local out = {}
  for i, b in ipairs(ask.bounds) do
    settle(KEYS[i + 1], read(KEYS[i + 1]), b, i - 1, out)
  end
  return out
end

local counters, shadow, taken, used = {}, {}, {}, {}
for i, b in ipairs(ask.bounds) do
  local c = read(KEYS[i + 1])
  counters[i] = c
  if b.purses[1] and b.purses[1].period == 'trace' then
    used[#used + 1] = {i - 1, number(spent(c, b.purses[1]) + c.held)}
  end
  local no = refusal(c, b)
  if no then
    table.insert(no, 1, i - 1)
    if not b.shadow then return {no, shadow, used} end
    shadow[#shadow + 1] = no
  else
    taken[#taken + 1] = i
  end
end
for _, i in ipairs(taken) do count(KEYS[i + 1], counters[i], ask.bounds[i]) end
return {false, shadow, used}
