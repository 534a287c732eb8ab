-- Reads one user's feed after a position; opens the feed when Valkey does not know it.
-- A head that another run of this server wrote is trusted only when its end is not behind what PostgreSQL has handed over:
-- a server that came back without its last second must not pass for one that has everything.
--
-- KEYS: head, log
-- ARGV: channel, life of the head (ms), fresh epoch, floor ('' while PostgreSQL was not asked),
--       epoch asked from ('' for the newest position only), offset asked from, most events, most bytes (one event may be longer)
-- Returns {} when the floor is needed, else {epoch, top, recovered, event, event, ...}; the first event is the one after the offset.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local head = redis.call('HMGET', KEYS[1], 'epoch', 'top', 'run')
local epoch, top = head[1], tonumber(head[2] or '')

if not epoch or head[3] ~= run then
  if ARGV[4] == '' then
    return {}
  end
  local floor = tonumber(ARGV[4])
  if not epoch or top < floor then
    if epoch then
      redis.call('PUBLISH', ARGV[1], ARGV[3] .. '\n' .. ARGV[4])
    end
    epoch, top = ARGV[3], floor
    redis.call('DEL', KEYS[2])
  end
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'top', top, 'run', run)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end

local since = tonumber(ARGV[6])
if ARGV[5] ~= epoch or since > top then
  return {epoch, top, 0}
end
local answer = {epoch, top, 1}
if since < top then
  local entries = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', since + 1), '+', 'COUNT', ARGV[7])
  if not entries[1] or entries[1][1] ~= string.format('%.0f-0', since + 1) then
    return {epoch, top, 0}
  end
  local bytes = 0
  for place, entry in ipairs(entries) do
    bytes = bytes + #entry[2][4]
    if place > 1 and bytes > tonumber(ARGV[8]) then
      break
    end
    answer[3 + place] = entry[2][4]
  end
end
return answer
