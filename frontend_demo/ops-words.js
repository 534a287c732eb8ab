// Every word of the operators' console, Korean first. Which language is spoken is the page's (words.js).

import { currentLanguage } from "./words.js";

const WORDS = {
  ko: {
    skip: "본문으로 건너뛰기", console: "모아 운영", leave: "나가기", language: "English", cancel: "취소",
    tokenTitle: "운영자 토큰이 필요해요",
    tokenLead: "scope에 ops가 있는 JWT를 넣어 주세요 (개발: moa token --user 이름 --ops). 이 탭의 메모리에만 둡니다.",
    tokenUse: "들어가기",
    alerts: "알림", breakers: "차단기", every: "모두 보기", batch: "주간 정기 전송", traffic: "트래픽", done: "최근 조치와 결정",
    noAlerts: "지금 알릴 것이 없어요.", noBreakers: "모든 기관을 부를 수 있어요.", nothing: "아직 없어요.", noBatch: "이 서버에는 정기 전송이 없어요.",
    breakerColumns: ["기관", "구분", "상태", "설정", "이유", "실패율", "표본", "언제부터", ""],
    batchColumns: ["기관", "대상", "완료", "실패", "건너뜀", "불명", "오늘 계획", "분당", "끝날 때", "지연", ""],
    trafficColumns: ["분류", "오늘", "지난 주", "비율", "원인"],
    state: { closed: "닫힘 (정상)", open: "열림 (차단)", half_open: "시험 중" },
    scope: { read: "조회", token: "토큰", ca: "인증" },
    mode: { auto: "자동", forced_open: "강제 차단", forced_closed: "강제 허용" },
    act: { auto: "자동으로", forced_open: "차단", forced_closed: "허용" },
    askMode: (name, act) => `${name}: ${act}`,
    askNote: "이 기관의 모든 차단기에 적용되고, 누가 왜 했는지 남습니다.",
    reason: "이유", pause: "멈춤", resume: "계속", pauseAll: "모두 멈춤", resumeAll: "모두 계속",
    paused: "모두 멈춰 있어요.", week: (day) => `${day}부터의 주`,
    compared: (now, before) => `${before}와 비교한 ${now}, 같은 시각까지`,
    industry: { bank: "은행", card: "카드", invest: "투자", insu: "보험", efin: "전금", capital: "대출", telecom: "통신" },
    kind: {
      circuit: "기관 호출 차단", batch_late: "정기 전송 지연", out_of_window: "50009: 전송 시간대 밖", quota: "42901: 한도 초과",
      bad_node: "나쁜 서버", lost_work: "잃은 작업을 찾음", queue_old: "대기열 지연", certificate: "인증서 만료 임박",
    },
    over: (time) => `${time}에 끝남`, saidEvent: (name, state) => `${name} ${state}`,
    seconds: (n) => (n < 60 ? `${n}초` : `${Math.round(n / 60)}분`),
    line: { off: "연결 안 됨", connecting: "연결하는 중", websocket: "WebSocket으로 실시간", sse: "SSE로 실시간", poll: "폴링 중" },
    trouble: {
      unreachable: "서버에 연결할 수 없어요.", token_expired: "토큰이 만료되었어요.", token_invalid: "토큰을 쓸 수 없어요.",
      unauthenticated: "토큰이 필요해요.", scope_missing: "이 토큰에는 운영자 권한이 없어요.", engine_unavailable: "엔진이 응답하지 않아요. 곧 다시 봅니다.",
    },
    otherTrouble: "요청을 처리하지 못했어요.",
  },
  en: {
    skip: "Skip to content", console: "Moa operations", leave: "Leave", language: "한국어", cancel: "Cancel",
    tokenTitle: "An operator's token is needed",
    tokenLead: "Paste a JWT whose scope has ops (in development: moa token --user NAME --ops). It stays in this tab's memory.",
    tokenUse: "Enter",
    alerts: "Alerts", breakers: "Breakers", every: "Show all", batch: "Weekly batch", traffic: "Traffic", done: "Recent actions and decisions",
    noAlerts: "Nothing is wrong now.", noBreakers: "Every institution may be called.", nothing: "Nothing yet.", noBatch: "This server has no batch.",
    breakerColumns: ["Institution", "Scope", "State", "Mode", "Reason", "Failing", "Sample", "Since", ""],
    batchColumns: ["Institution", "Due", "Done", "Failed", "Skipped", "Unknown", "Today", "A minute", "Ends", "Late", ""],
    trafficColumns: ["Category", "Today", "Week before", "Ratio", "Cause"],
    state: { closed: "closed (well)", open: "open (refused)", half_open: "probing" },
    scope: { read: "read", token: "token", ca: "CA" },
    mode: { auto: "auto", forced_open: "forced open", forced_closed: "forced closed" },
    act: { auto: "Auto", forced_open: "Refuse", forced_closed: "Let through" },
    askMode: (name, act) => `${name}: ${act}`,
    askNote: "It covers every breaker of this institution. Who did it and why is kept.",
    reason: "Reason", pause: "Pause", resume: "Resume", pauseAll: "Pause all", resumeAll: "Resume all",
    paused: "All of it is held.", week: (day) => `The week from ${day}`,
    compared: (now, before) => `${now} beside ${before}, up to the same time`,
    industry: { bank: "Banks", card: "Cards", invest: "Securities", insu: "Insurance", efin: "E-money", capital: "Loans", telecom: "Telecoms" },
    kind: {
      circuit: "Calls are refused", batch_late: "The batch is late", out_of_window: "50009: outside of the window", quota: "42901: beyond the quota",
      bad_node: "A bad node", lost_work: "Lost work was found", queue_old: "A queue is late", certificate: "A certificate ends soon",
    },
    over: (time) => `over at ${time}`, saidEvent: (name, state) => `${name} ${state}`,
    seconds: (n) => (n < 60 ? `${n} s` : `${Math.round(n / 60)} min`),
    line: { off: "Not connected", connecting: "Connecting", websocket: "Live over WebSocket", sse: "Live over SSE", poll: "Following by polls" },
    trouble: {
      unreachable: "The server cannot be reached.", token_expired: "The token has expired.", token_invalid: "The token cannot be used.",
      unauthenticated: "A token is needed.", scope_missing: "This token is no operator's.", engine_unavailable: "An engine does not answer. It is looked at again soon.",
    },
    otherTrouble: "The request could not be carried out.",
  },
};

export function words() {
  return WORDS[currentLanguage()];
}

export function troubleWords({ code, detail }) {
  return words().trouble[code] ?? (currentLanguage() === "en" && detail ? detail : words().otherTrouble);
}
