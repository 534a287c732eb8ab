-- Ends runs, or gives their jobs back. Only the owner may: anything else is a zombie's late word.
-- KEYS  1 the queue   2 the wake list
-- ARGV  1 ms that a job outlives its due time
--       then for each run: job id, owner, delay in ms ('' ends the job), 'counted', 'taken back' or 'forgotten' (the tries)
-- Returns {job id, holder} of each job that another claim holds, and leaves it alone.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local held, again = {}, false
for i = 2, #ARGV, 4 do
  local id, delay, count = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local key, tries = 'arq:in-progress:' .. id, 'arq:retry:' .. id
  local holder = redis.call('GET', key) or ''
  if holder ~= ARGV[i + 1] then
    held[#held + 1] = { id, holder }
  elseif delay == '' then
    redis.call('DEL', 'arq:job:' .. id, key, tries)
    redis.call('ZREM', KEYS[1], id)
  else
    redis.call('DEL', key)
    redis.call('ZADD', KEYS[1], now + delay, id)
    if count == 'taken back' then
      redis.call('DECR', tries)
    elseif count == 'forgotten' then
      redis.call('DEL', tries)
      redis.call('PEXPIRE', 'arq:job:' .. id, delay + ARGV[1])
    end
    again = true
  end
end
if again and redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
return held
