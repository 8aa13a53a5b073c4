@echo off
rem Makes .venv beside this file, installs what is pinned, and runs livelatent. Needs Python 3.11 or newer, nothing else.
rem start.bat            run, with the page          start.bat test      lint, types and tests
rem start.bat COMMAND    any livelatent command      start.bat install   install again from nothing
setlocal
set "FITS=import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
if defined LIVELATENT_PYTHON call :try "%LIVELATENT_PYTHON%" && goto :found
for %%V in (3.13 3.12 3.11 3.14) do call :try py -%%V && goto :found
call :try python && goto :found
call :try python3 && goto :found
echo livelatent needs Python 3.11 to 3.14, and found none: install one from python.org (or set LIVELATENT_PYTHON).>&2
if not defined CI pause
exit /b 1

:try
set RUN=%*
%RUN% -c "%FITS%" >nul 2>nul
exit /b %errorlevel%

:found
%RUN% -B "%~dp0scripts\start.py" %*
set "STATUS=%errorlevel%"
rem A double click would close the window before anyone reads the reason.
if not "%STATUS%"=="0" if "%~1"=="" if not defined CI pause
exit /b %STATUS%
