-- KEYS[1] is the log of a key: the times of its admitted calls, in microseconds.
-- ARGV: the limit; the window in microseconds; the time of Redis after which the caller has stopped waiting.
-- Returns whether the call is admitted (-1 if the caller has stopped waiting), how many more calls would be,
-- in how many microseconds the next place is free, and the time of Redis.
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > tonumber(ARGV[3]) then
  return {-1, 0, 0, clock}
end
local now = clock
local calls = redis.call('LLEN', KEYS[1])
if calls > 0 then
  local last = tonumber(redis.call('LINDEX', KEYS[1], -1))
  if last > clock + window then
    -- The clock was set back by more than the window, so the log is worthless.
    redis.call('DEL', KEYS[1])
    calls = 0
  else
    now = math.max(clock, last)
  end
end
if calls > 0 and tonumber(redis.call('LINDEX', KEYS[1], 0)) <= now - window then
  local low, high = 1, calls
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', KEYS[1], middle)) <= now - window then
      low = middle + 1
    else
      high = middle
    end
  end
  redis.call('LTRIM', KEYS[1], low, -1)
  calls = calls - low
end
local admitted = 0
if calls < limit then
  redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], window / 1000 + 1000)
  calls = calls + 1
  admitted = 1
end
local next_to_leave = tonumber(redis.call('LINDEX', KEYS[1], math.max(calls - limit, 0)))
return {admitted, math.max(limit - calls, 0), next_to_leave + window - clock, clock}
